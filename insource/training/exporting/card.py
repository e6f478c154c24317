"""What an exported folder says of itself: specialist.json for its runners, README.md for people.

It knows a version, its answers and its trunk's origin; it computes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from insource import __version__
from insource.answers import AnswerSpace
from insource.training.base_models import KNOWN
from insource.types import Calibration, SpecialistVersion

FORMAT = 1
UNKNOWN_LICENCE = "not known to insource: ask where you had the model from"


def card(
    version: SpecialistVersion, answers: AnswerSpace, inputs: Mapping[str, Any], trunk: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the entries of specialist.json but for `files` and how texts become numbers.

    `answers` and `replies` are by number; `threshold` None accepts nothing. `trunk` is the trunk's manifest.
    """
    calibration = version.calibration
    return {
        "format": FORMAT,
        "made_by": f"insource {__version__}",
        "name": version.name,
        "family": version.family,
        "digest": version.digest,
        "threshold": calibration.threshold if calibration else None,
        "promise": _promise(calibration) if calibration else None,
        "answers": list(answers.answers),
        "replies": list(answers.forms),
        "input": {"templates": [], **inputs},
        "base": _base(trunk) if trunk is not None else _lexicon(version),
    }


def readme(told: Mapping[str, Any], files: Mapping[str, bytes]) -> str:
    """Return README.md for a folder with this card and these files."""
    parts = [
        f"# {told['name']}\n\nA specialist of family {told['family']} for one task, exported by {told['made_by']}. It "
        f"answers a text with one of {len(told['answers'])} answers and a score in [0, 1]. It needs no network and no "
        "insource.",
        f"## Run it\n\nIn Python 3.11 or newer, with `pip install {' '.join(needed(told))}`:\n\n```sh\npython run.py "
        '"a text"          # or a text a line on standard input; one line of JSON for each\n```\n\n`from run import '
        "answer` does the same in a program.",
    ]
    if "index.html" in files:
        parts.append(
            "In a browser: let any web server hand out this folder, on this machine or over https, and open it.\n\n"
            "```sh\npython -m http.server --bind 127.0.0.1 8000\n```\n\nThe page loads its files once; from then on "
            "the network may be cut. Texts stay in the page: its content security policy lets it talk to its own "
            "server only. Characters that Unicode added since 2015 (marks and signs of rare scripts) may be read "
            "otherwise than in Python, and scores differ a little, as they do between processors."
        )
    parts += [_reading(told), _promised(told), _parts(told, files)]
    return "\n\n".join(parts) + "\n"


def needed(told: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the packages that run.py needs."""
    engine = () if "units" in told else ("onnxruntime",)
    return (*engine, "numpy", *(("tokenizers",) if "tokens" in told else ()))


def _reading(told: Mapping[str, Any]) -> str:
    seen = told["input"]
    lines = [f"## What it reads\n\nThe first {seen['max_characters']:,} characters of the text that the user wrote."]
    if seen["messages"] == "user":
        lines.append("Of a conversation, give it all the user's messages, joined by line breaks.")
    else:
        lines.append("Of a conversation, give it the user's last message.")
    if seen["templates"]:
        lines.append("Of a text that follows one of `input.templates` it reads what stands in the slots.")
    if "tokens" in told:
        windows, tokens = told["tokens"]["windows"], told["tokens"]["max_tokens"]
        several = f"up to {windows} windows of {tokens} tokens, one after the other"
        lines.append(f"Of those, the encoder reads {several if windows > 1 else f'the first {tokens} tokens'}.")
    return " ".join(lines)


def _promised(told: Mapping[str, Any]) -> str:
    promise, title = told["promise"], "## What the threshold promises"
    if promise is None or told["threshold"] is None:
        return f"{title}\n\nNothing was certified, so no answer is accepted. Use the answers at your own risk."
    guards = [
        f"Of the requests whose answer should be `{guard['answer']}`, at most {guard['limit']:.1%} are accepted with "
        "another one."
        for guard in promise["guards"]
    ]
    return " ".join([
        f"{title}\n\nAn answer is accepted where its score is at least {told['threshold']!r}. At",
        f"confidence {promise['confidence_level']:g}, at most {promise['target_risk']:.1%} of the accepted answers",
        f"differ from the reference; of {promise['rows']:,} certified requests {promise['coverage']:.1%} were",
        "accepted. Below the threshold, ask whom you would have asked without this specialist.",
        *guards,
        "\n\nThat holds for requests like those it was certified on, on average over them and not for each. Nothing",
        "here watches whether your requests still are like those: insource's gateway does, this folder does not.",
    ])  # fmt: skip


def _parts(told: Mapping[str, Any], files: Mapping[str, bytes]) -> str:
    base = told["base"]
    lines = ["## What is in it\n", "| file | bytes |", "| --- | ---: |"]
    lines += [f"| `{name}` | {len(data):,} |" for name, data in sorted(files.items())]
    lines.append("\nspecialist.json holds the answers, the threshold and the digest of every file; run.py checks them.")
    if "ngrams" in told:
        lines.append("ngrams.json holds pieces of the texts it was trained on: treat it as you treat those.")
    if "units" in told:
        lines.append("static.safetensors holds words of the texts it was trained on: treat it as you treat those.")
        if base is not None:
            lines.append(f"Its words began with vectors of {base['name']}, licence: {base['licence']}.")
    elif base is not None:
        lines.append(f"The encoder comes from {base['name']} (sha256 {base['sha256']}), licence: {base['licence']}.")
    if any(name.startswith("ort") for name in files):
        lines.append("The files whose names begin with `ort` are onnxruntime-web's (Microsoft, MIT licence).")
    return "\n".join(lines)


def _promise(calibration: Calibration) -> dict[str, Any]:
    return {
        "method": calibration.method,
        "target_risk": calibration.target_risk,
        "confidence_level": calibration.confidence_level,
        "rows": calibration.rows,
        "coverage": calibration.coverage,
        "risk_upper_bound": calibration.risk_upper_bound,
        "guards": [
            {"answer": each.answer, "limit": each.limit, "missed_upper_bound": each.missed_upper_bound}
            for each in calibration.guards
        ],
        "notes": list(calibration.notes),
    }


def _base(trunk: Mapping[str, Any]) -> dict[str, Any]:
    """Return the base model's name, digest and licence: that of the trunk's manifest, or of the pinned weights."""
    pin = KNOWN.get(trunk["base"])
    pinned = pin.licence if pin is not None and pin.weights_sha256 == trunk["base_digest"] else None
    licence = trunk.get("licence") or pinned or UNKNOWN_LICENCE
    return {"name": trunk["base"], "sha256": trunk["base_digest"], "licence": licence}


def _lexicon(version: SpecialistVersion) -> dict[str, Any] | None:
    """Return the encoder that gave a static model its first vectors; its digest is not in the lineage."""
    name = version.lineage.get("recipe", {}).get("base") if version.family == "static" else None
    pin = KNOWN.get(name or "")
    return {"name": name, "sha256": None, "licence": pin.licence if pin else UNKNOWN_LICENCE} if name else None
