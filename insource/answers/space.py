"""The closed set of answers of one task: from a reply to its label, and from a label to the exact reply.

It knows neither requests nor how the set was found; `learning` finds it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from insource.answers.folding import canonical, fold, json_object
from insource.errors import DataError


@dataclass(frozen=True, slots=True)
class AnswerSpace:
    """The answers of a task, by class index.

    kind: "label" (plain texts) or "json_field" (JSON objects of which only `field` varies).
    answers: the labels, most frequent first, then by alphabet. A label is the folded text, or for "json_field" the
    canonical JSON of the field's value (`"billing"` with its quotes).
    forms: for each label the reply to give, byte for byte as the teacher most often wrote it.
    counts: how often each was seen. outside: how many answers had another form and belong to no label.
    """

    kind: str
    answers: tuple[str, ...]
    forms: tuple[str, ...]
    field: str | None = None
    counts: tuple[int, ...] = ()
    outside: int = 0
    _index: Mapping[str, int] = dataclasses.field(init=False, repr=False, compare=False)
    _constants: Mapping[str, str] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in ("label", "json_field") or (self.kind == "json_field") != (self.field is not None):
            raise DataError(
                f"An answer space has kind {self.kind!r} and field {self.field!r}; 'label' without a field or "
                "'json_field' with one was expected. Train the version again."
            )
        if not self.answers or not len(set(self.answers)) == len(self.answers) == len(self.forms) == len(
            self.counts or self.forms
        ):
            raise DataError(
                f"An answer space has {len(self.answers)} answers, {len(self.forms)} forms and {len(self.counts)} "
                "counts; at least one, all different, and as many of each, were expected. Train the version again."
            )
        object.__setattr__(self, "_index", {label: i for i, label in enumerate(self.answers)})
        usual = json_object(self.forms[0]) if self.field is not None else None
        constants = {k: canonical(v) for k, v in (usual or {}).items() if k != self.field}
        object.__setattr__(self, "_constants", constants)

    def __len__(self) -> int:
        return len(self.answers)

    def __contains__(self, label: object) -> bool:
        return label in self._index

    @property
    def rare(self) -> tuple[str, ...]:
        """The labels that were seen once."""
        return tuple(label for label, count in zip(self.answers, self.counts, strict=False) if count == 1)

    def index(self, label: str) -> int:
        """Return a label's class index; KeyError where the label is not in the space."""
        return self._index[label]

    def render(self, label: str) -> str:
        """Return the reply that says a label, byte for byte as the teacher writes it; KeyError where unknown."""
        return self.forms[self._index[label]]

    def normalise(self, raw: str) -> str | None:
        """Return the label of a reply, or None where it has another form or says something outside the space."""
        label = fold(raw) if self.field is None else self._field_of(raw)
        return label if label in self._index else None

    def normalise_all(self, raws: Iterable[str | None]) -> list[str | None]:
        """Normalise many replies in their order, each distinct text once; None stays None."""
        seen: dict[str | None, str | None] = {None: None}
        labels: list[str | None] = []
        for raw in raws:
            if raw is not None and raw not in seen:
                seen[raw] = self.normalise(raw)
            labels.append(seen[raw])
        return labels

    def same(self, a: str, b: str) -> bool:
        """Say whether two replies have the same label of this space."""
        label = self.normalise(a)
        return label is not None and label == self.normalise(b)

    def find(self, text: str) -> str | None:
        """Return the label that a person means: the label itself, a reply, or the bare value of the JSON field.

        For what people and gold columns write (`billing` where the teacher replies `{"label": "Billing"}`); None where
        nothing or more than one answer fits.
        """
        if text in self._index:
            return text
        label = self.normalise(text)
        if label is not None or self.field is None:
            return label
        wanted = fold(text)
        fitting = [label for label in self.answers if fold(self.display(label)) == wanted]
        return fitting[0] if len(fitting) == 1 else None

    def display(self, label: str) -> str:
        """Return a label as people read it: a JSON string without its quotes, anything else as it is."""
        if self.field is None or not label.startswith('"'):
            return label
        return msgspec.json.decode(label, type=str)

    def to_json(self) -> dict[str, Any]:
        """Return what the manifest holds."""
        return {"kind": self.kind, "answers": list(self.answers), "forms": list(self.forms), "field": self.field,
                "counts": list(self.counts), "outside": self.outside}  # fmt: skip

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> AnswerSpace:
        """Read what `to_json` wrote; raise DataError where it is something else."""
        try:
            stored = msgspec.convert(value, _Stored)
        except msgspec.ValidationError as error:
            raise DataError(f"An answer space cannot be read: {error}. What AnswerSpace.to_json writes was expected; "
                            "train the version again.") from error  # fmt: skip
        return cls(stored.kind, tuple(stored.answers), tuple(stored.forms), stored.field, tuple(stored.counts),
                   stored.outside)  # fmt: skip

    def _field_of(self, raw: str) -> str | None:
        reply = json_object(raw)
        if reply is None or self.field not in reply or len(reply) != len(self._constants) + 1:
            return None
        if any(key not in reply or canonical(reply[key]) != value for key, value in self._constants.items()):
            return None
        return canonical(reply[self.field])


class _Stored(msgspec.Struct, forbid_unknown_fields=True):
    kind: str
    answers: list[str]
    forms: list[str]
    field: str | None
    counts: list[int]
    outside: int
