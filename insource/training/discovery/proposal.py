"""A proposed task: its figures, its wordings, and the section of insource.toml that would make it one.

It knows results; how they were found is for its neighbours to say.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from insource.training.discovery.answer_kinds import Answers
from insource.training.discovery.matching import Claims, template_text
from insource.training.discovery.modelling import Modelled
from insource.training.discovery.wordings import NO_TEMPLATE, VARIED, Wording
from insource.types import Match

SHOWN_CHARACTERS = 160
RARE_SHARE = 0.10


@dataclass(frozen=True, slots=True)
class Volume:
    """How much a group is of the log. `per_day` is None where times are not known; `spend` where usage or prices are
    not, and over the `priced` requests otherwise.
    """

    requests: int
    share: float
    per_day: float | None
    spend: Decimal | None
    currency: str | None
    priced: int


@dataclass(frozen=True, slots=True)
class Repetition:
    """How often the same question came again.

    `repeated` is the share of requests whose variable text had come before. `differing` is the share of pairs of equal
    questions with unequal answers, None without such pairs; `floor` the risk it puts out of reach.
    """

    repeated: float
    pairs: int
    differing: float | None
    floor: float | None


@dataclass(frozen=True, slots=True)
class Proposal:
    """A task to be. `modelled` is None where nothing could be learned, and `why_not` says then why."""

    name: str
    wordings: tuple[Wording, ...]
    examples: tuple[str, ...]
    answers: Answers
    volume: Volume
    repetition: Repetition
    modelled: Modelled | None
    why_not: str | None
    claims: Claims
    target_risk: float
    confidence_level: float

    def section(self) -> str:
        """Return the section of insource.toml; whatever the requests say, it stays one valid section."""
        lines = [f"[tasks.{toml(self.name)}]" if "." in self.name else f"[tasks.{self.name}]"]
        lines += [f"# {note}" for note in self._notes()]
        lines += [f"target_risk = {self.target_risk!r}", f"confidence_level = {self.confidence_level!r}"]
        return "\n".join([*lines, *match_lines(self.claims.match)]) + "\n"

    def _notes(self) -> list[str]:
        notes = [f"{self.volume.requests:,} requests, {self.volume.share:.1%} of the log; {self.answers.kind}"]
        if self.claims.unreached:
            rows = sum(len(self.wordings[number].rows) for number in self.claims.unreached)
            notes.append(
                f"{rows:,} of them share all that match could tell them by with other requests: let the client "
                f'send the header x-insource-task: {self.name}, or ask for the model "task:{self.name}"'
            )
            fixed = [self.wordings[number].literals for number in self.claims.unreached]
            notes += [f"  {_commented((template_text(each),))}" for each in fixed if each != NO_TEMPLATE]
        if self.claims.match.user_templates:
            notes.append("match.user_template goes by what the user's message says; the specialist sees its slots")
        space = self.answers.space
        if space is not None:
            seen = sum(space.counts)
            rare = [space.display(a) for a, c in zip(space.answers, space.counts, strict=True) if c < RARE_SHARE * seen]
            if rare and len(rare) <= 5:
                notes.append(f"rare answers, which a guard may protect: {_commented(tuple(rare))}")
        notes.append('content = "full" would keep texts and answers in the ledger, to learn from later traffic')
        return notes

    def to_json(self) -> dict[str, Any]:
        """Return what --json holds of a proposal."""
        space, volume = self.answers.space, self.volume
        return {
            "task": self.name,
            **volume_json(volume),
            "answer_kind": self.answers.kind.value,
            "distinct_answers": self.answers.distinct if space is None else len(space),
            "answers": [] if space is None else [
                {"answer": space.display(answer), "requests": count}
                for answer, count in zip(space.answers, space.counts, strict=True)
            ],
            "answers_read": self.answers.read,
            "unlabelled": self.answers.unlabelled,
            "fields": [{"name": f.name, "distinct": f.distinct, "closed": f.closed} for f in self.answers.fields],
            "repeated": self.repetition.repeated,
            "repeated_pairs": self.repetition.pairs,
            "differing": self.repetition.differing,
            "risk_floor": self.repetition.floor,
            "model": None if self.modelled is None else _model_json(self.modelled),
            "why_not": self.why_not,
            "wordings": [
                wording_json(wording, example, number not in self.claims.unreached)
                for number, (wording, example) in enumerate(zip(self.wordings, self.examples, strict=True))
            ],
            "section": self.section(),
        }  # fmt: skip


def volume_json(volume: Volume) -> dict[str, Any]:
    """Return volume and spend; what is unknown is null."""
    return {
        "requests": volume.requests,
        "share": volume.share,
        "per_day": volume.per_day,
        "spend": volume.spend,
        "currency": volume.currency,
        "priced": volume.priced,
    }


def wording_json(wording: Wording, example: str, reached: bool) -> dict[str, Any]:
    """Return a wording: what is constant in it, and whether `match` can tell it."""
    frame = wording.frame
    system = None if frame.system_template is None else template_text(frame.system_template)
    return {
        "requests": len(wording.rows),
        "system_prompt": None if frame.system == VARIED else frame.system,
        "system_template": system,
        "user_template": None if wording.literals == NO_TEMPLATE else template_text(wording.literals),
        "schema": frame.schema,
        "tools": frame.tools is not None,
        "turns_before": frame.before is not None,
        "matched": reached,
        "example": example,
    }


def match_lines(match: Match) -> list[str]:
    """Return the `match.` lines of a task's section."""
    named: tuple[tuple[str, Sequence[str]], ...] = (
        ("model", match.models),
        ("system_prompt", match.system_prompts),
        ("system_template", match.system_templates),
        ("schema", match.schemas),
        ("user_template", match.user_templates),
    )
    lines = [f"match.{key} = {_value(values)}" for key, values in named if values]
    if match.headers:
        inner = ", ".join(f"{toml(name)} = {toml(value)}" for name, value in match.headers)
        lines.append(f"match.header = {{ {inner} }}")
    return lines


def toml(text: str) -> str:
    """Return a text as a TOML basic string: JSON's, but for the character DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(values: Sequence[str]) -> str:
    shown = [toml(value) for value in values]
    return shown[0] if len(shown) == 1 else "[" + ", ".join(shown) + "]"


def _commented(texts: Sequence[str]) -> str:
    """Return texts on one line of comment: quoted, without anything that could end the line, and cut short."""
    shown = ", ".join(json.dumps(text[:SHOWN_CHARACTERS]) for text in texts)
    return shown.replace("\x7f", "\\u007f")


def _model_json(modelled: Modelled) -> dict[str, Any]:
    calibration = modelled.calibration
    return {
        "rows": modelled.rows,
        "majority": modelled.majority,
        "curve": [
            {"rows": p.rows, "accuracy": p.accuracy, "low": p.low, "high": p.high, "held_out": p.held_out}
            for p in modelled.curve
        ],
        "coverage": calibration.coverage,
        "risk_upper_bound": calibration.risk_upper_bound,
        "target_risk": calibration.target_risk,
        "confidence_level": calibration.confidence_level,
        "notes": list(calibration.notes),
    }
