"""What kind of answers a wording has: a closed set, fields of a JSON object, free text, one answer, or none.

It knows answers as texts and counts; not requests. Whether a set is closed, `insource.answers` decides.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import exp

from insource.answers import AnswerSpace, learn_answers
from insource.answers.folding import canonical, json_object
from insource.errors import DataError

READ = 5_000
"""So many answers, evenly spaced, are looked at."""

MOST_OBJECTS = 0.9
SURPRISE = 0.01


class AnswerKind(StrEnum):
    """The kinds; only the first two are proposed as tasks."""

    CLOSED = "closed set"
    FIELDS = "fields"
    FREE = "free text"
    ONE = "one answer"
    NONE = "no answers"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the answers: its name, how many values were seen, and whether these are a closed set."""

    name: str
    distinct: int
    closed: bool


@dataclass(frozen=True, slots=True)
class Answers:
    """What was learned of a wording's answers. `space` is the closed set, None where there is none.

    `distinct` counts different texts among those read, `read` how many that were, `unlabelled` requests without one.
    """

    kind: AnswerKind
    space: AnswerSpace | None
    distinct: int
    read: int
    unlabelled: int
    fields: tuple[Field, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of the fields, by alphabet."""
        return tuple(sorted(field.name for field in self.fields))

    def label_of(self, raw: str) -> str | None:
        """Return what two wordings can be compared by: the label, or, without a closed set, which fields are filled."""
        if self.space is not None:
            return self.space.normalise(raw)
        reply = json_object(raw) if self.fields else None
        if reply is None:
            return None
        return " ".join(sorted(key for key, value in reply.items() if value not in (None, "", [], {})))


def answers_of(raw: Sequence[str | None]) -> Answers:
    """Return the kind of a wording's answers."""
    given = [answer for answer in raw if answer is not None]
    step = max(len(given) / READ, 1.0)
    read = [given[int(place * step)] for place in range(int(len(given) / step))]
    texts = Counter(read)
    told = len(texts), len(read), len(raw) - len(given)
    if not read:
        return Answers(AnswerKind.NONE, None, *told)
    objects = {text: value for text in texts if (value := json_object(text)) is not None}
    fields: tuple[Field, ...] = ()
    if sum(texts[text] for text in objects) >= MOST_OBJECTS * len(read):
        fields = _fields(objects, texts)
    kind = AnswerKind.FIELDS if fields else AnswerKind.CLOSED
    try:
        return Answers(kind, learn_answers(read), *told, fields)
    except DataError:
        if fields:
            return Answers(AnswerKind.FIELDS, None, *told, fields)
        return Answers(AnswerKind.ONE if _says_one_thing(read) else AnswerKind.FREE, None, *told)


def agree(first: Answers, second: Answers) -> bool:
    """Say whether two wordings answer from the same set.

    They do where no answer of one is missing in the other although its share there would make its absence a surprise:
    a chance under 1 %, shared by all the answers, that none of so many requests had it. Without a
    closed set, the fields have to be the same.
    """
    if first.space is None or second.space is None:
        return first.space is second.space and first.keys == second.keys != ()
    if first.space.varying != second.space.varying:
        return False
    return not _missing(first.space, second.space) and not _missing(second.space, first.space)


def _missing(here: AnswerSpace, there: AnswerSpace) -> bool:
    seen, asked = sum(here.counts), sum(there.counts)
    return any(
        label not in there and exp(-asked * count / seen) < SURPRISE / len(here)
        for label, count in zip(here.answers, here.counts, strict=True)
        if count > 1
    )


def _fields(objects: Mapping[str, dict[str, object]], texts: Counter[str]) -> tuple[Field, ...]:
    values: dict[str, Counter[str]] = defaultdict(Counter)
    for text, value in objects.items():
        for key, inner in value.items():
            values[key][canonical(inner)] += texts[text]
    return tuple(Field(key, len(seen), _is_closed(seen)) for key, seen in values.items())


def _is_closed(values: Counter[str]) -> bool:
    if len(values) == 1:
        return True
    try:
        learn_answers([f"={value}" for value in values.elements()])
    except DataError:
        return False
    return True


def _says_one_thing(read: Sequence[str]) -> bool:
    return len({" ".join(text.split()).casefold() for text in read[:READ]}) == 1
