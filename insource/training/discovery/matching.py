"""What of insource.toml gives a proposal its requests, and no others: the claims of `[tasks.NAME.match]`.

It knows what requests have in common; the matcher itself is the cascade's, and the command line asks it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from insource.config.template import FEWEST_LITERAL_CHARACTERS
from insource.inputs import in_slots, last_of_user, slots_of
from insource.training.discovery.templates import Literals
from insource.training.discovery.wordings import NO_TEMPLATE, TASK_HEADER, Wording
from insource.types import Example, Match

Claim = tuple[str, str, str]
"""Its kind, the header's name where it is one, and the value."""

MOST_VALUES = 1_000
"""A header with more values than this names no task."""


@dataclass(frozen=True, slots=True)
class Claims:
    """The `match` of a proposal, and which of its wordings (by number) no claim of it reaches."""

    match: Match
    unreached: tuple[int, ...]


class Log:
    """What every request of a log has that a task can be matched by, counted once."""

    def __init__(self, examples: Sequence[Example], schemas: Sequence[str | None]) -> None:
        """`schemas` name the schema that each request asks for, as `match.schema` takes it."""
        self._examples = examples
        self._schemas = schemas
        self._counts = Counter(claim for number in range(len(examples)) for claim in self._of(number))
        values = Counter(claim[:2] for claim in self._counts if claim[0] == "header")
        self._crowded = {name for (_, name), count in values.items() if count > MOST_VALUES}

    def claims(self, wordings: Sequence[Wording]) -> Claims:
        """Return what reaches the wordings of one proposal and no request outside it.

        Each wording gets its most telling claim: system prompt, template, schema, header, model, and where there is
        none of these the template of the user's text. One that is shared with other requests is no claim. Where there
        is none at all the requests have to name the task themselves.
        """
        inside: Counter[Claim] = Counter()
        own: list[Counter[Claim]] = []
        for wording in wordings:
            own.append(Counter(claim for row in wording.rows for claim in self._of(int(row))))
            inside.update(own[-1])
        chosen: dict[str, list[Claim]] = {}
        templates: list[str] = []
        user_templates: list[str] = []
        unreached: list[int] = []
        for number, (wording, counts) in enumerate(zip(wordings, own, strict=True)):
            template = wording.frame.system_template
            if template is not None and self._only(template, wordings):
                templates.append(template_text(template))
                continue
            claim = self._best(len(wording.rows), counts, inside, chosen.get("header", ()))
            if claim is not None:
                chosen.setdefault(claim[0], []).append(claim)
            elif self._only_user(fixed := _without_full_stop(wording.literals), wordings):
                user_templates.append(template_text(fixed))
            else:
                unreached.append(number)
        named = {kind: tuple(dict.fromkeys(claim[2] for claim in claims)) for kind, claims in chosen.items()}
        headers = tuple(dict.fromkeys((claim[1], claim[2]) for claim in chosen.get("header", ())))
        match = Match(named.get("model", ()), named.get("system_prompt", ()), headers,
                      tuple(dict.fromkeys(templates)), named.get("schema", ()),
                      tuple(dict.fromkeys(user_templates)))  # fmt: skip
        return Claims(match, tuple(unreached))

    def _best(
        self, rows: int, counts: Mapping[Claim, int], inside: Mapping[Claim, int], headers: Sequence[Claim]
    ) -> Claim | None:
        """Return the most telling claim that every request of a wording has and no request outside the proposal.

        Of one header a task can claim one value only; `headers` are claimed already.
        """
        claimed = {name: value for _, name, value in headers}
        fitting = [
            claim
            for claim, count in counts.items()
            if count == rows
            and inside[claim] == self._counts[claim]
            and claim[1] not in self._crowded
            and claimed.get(claim[1], claim[2]) == claim[2]
        ]
        return min(fitting, key=lambda claim: (_ORDER.index(claim[0]), claim), default=None)

    def _only(self, literals: Literals, wordings: Sequence[Wording]) -> bool:
        """Say whether only requests of these wordings have a system prompt that follows the template."""
        rows = {int(row) for wording in wordings for row in wording.rows}
        following = (
            number
            for number, example in enumerate(self._examples)
            if number not in rows and (prompt := example.request.system_prompt) and slots_of(prompt, literals)
        )
        return next(following, None) is None

    def _only_user(self, literals: Literals, wordings: Sequence[Wording]) -> bool:
        """Say whether the gateway can match the template, and only requests of these wordings fill it."""
        if literals == NO_TEMPLATE or sum(map(len, literals)) < FEWEST_LITERAL_CHARACTERS:
            return False
        rows = {int(row) for wording in wordings for row in wording.rows}
        filling = (
            number
            for number, example in enumerate(self._examples)
            if number not in rows and (text := last_of_user(example.request)) and in_slots(text, literals)
        )
        return expressible("".join(literals)) and next(filling, None) is None

    def _of(self, number: int) -> list[Claim]:
        request = self._examples[number].request
        found = [
            ("header", name, value)
            for name, value in request.headers.items()
            if value and name != TASK_HEADER and _HEADER.fullmatch(name)
        ]
        if request.model and not request.model.startswith("task:"):
            found.append(("model", "", request.model))
        if request.system_prompt:
            found.append(("system_prompt", "", request.system_prompt))
        schema = self._schemas[number]
        if schema:
            found.append(("schema", "", schema))
        return [claim for claim in found if expressible(claim[2])]


_HEADER = re.compile(r"[a-z0-9_-]{1,64}")
_ENDS = frozenset(".!?…。！？")
_ORDER = ("system_prompt", "schema", "header", "model")


def _without_full_stop(literals: Literals) -> Literals:
    """Return a template without the sign that ends a sentence after its last slot: that is the data's own."""
    return (*literals[:-1], "") if literals[-1] in _ENDS and len(literals) > 1 else literals


def expressible(text: str) -> bool:
    """Say whether a TOML file can hold a text: anything but lone surrogates, which JSON can bring."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def template_text(literals: Literals) -> str:
    """Return a template as insource.toml has it: {slots} between the fixed texts, whose own braces are doubled."""
    fixed = [text.replace("{", "{{").replace("}", "}}") for text in literals]
    names = ["text"] if len(fixed) == 2 else [f"text_{number}" for number in range(1, len(fixed))]
    return fixed[0] + "".join(f"{{{name}}}{text}" for name, text in zip(names, fixed[1:], strict=True))
