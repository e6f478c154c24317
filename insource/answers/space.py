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

    kind: "label" (plain texts), "json_field" (JSON objects of which only `field` varies), or "json_fields" (JSON
    objects of which two or more `fields` vary; the answers are the combinations of values that were seen).
    answers: the labels, most frequent first, then by alphabet. A label is the folded text, for "json_field" the
    canonical JSON of the field's value (`"billing"` with its quotes), and for "json_fields" the canonical JSON of the
    object of these fields alone (`{"team":"billing","urgent":true}`).
    forms: for each label the reply to give, byte for byte as the teacher most often wrote it.
    counts: how often each was seen. outside: how many answers had another form and belong to no label.
    """

    kind: str
    answers: tuple[str, ...]
    forms: tuple[str, ...]
    field: str | None = None
    counts: tuple[int, ...] = ()
    outside: int = 0
    fields: tuple[str, ...] = ()
    _index: Mapping[str, int] = dataclasses.field(init=False, repr=False, compare=False)
    _constants: Mapping[str, str] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._check_kind()
        if not self.answers or not len(set(self.answers)) == len(self.answers) == len(self.forms) == len(
            self.counts or self.forms
        ):
            raise DataError(
                f"An answer space has {len(self.answers)} answers, {len(self.forms)} forms and {len(self.counts)} "
                "counts; at least one, all different, and as many of each, were expected. Train the version again."
            )
        object.__setattr__(self, "_index", {label: i for i, label in enumerate(self.answers)})
        usual = json_object(self.forms[0]) if self.varying else None
        constants = {k: canonical(v) for k, v in (usual or {}).items() if k not in self.varying}
        object.__setattr__(self, "_constants", constants)

    def __len__(self) -> int:
        return len(self.answers)

    def __contains__(self, label: object) -> bool:
        return label in self._index

    @property
    def varying(self) -> tuple[str, ...]:
        """The JSON fields that vary; none for plain texts."""
        return self.fields if self.field is None else (self.field,)

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
        label = self._said(raw) if self.varying else fold(raw)
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
        """Return the label that a person means: the label itself, a reply, or what varies in it and nothing else.

        For what people and gold columns write: `billing` where the teacher replies `{"label": "Billing"}`, or the
        object of the fields that vary, in any order and spacing. None where nothing or more than one answer fits.
        """
        if text in self._index:
            return text
        label = self.normalise(text)
        if label is not None or not self.varying:
            return label
        if self.fields and (bare := canonical(json_object(text))) in self._index:
            return bare
        wanted = fold(text)
        fitting = [label for label in self.answers if fold(self.display(label)) == wanted]
        return fitting[0] if len(fitting) == 1 else None

    def values(self, label: str) -> tuple[str, ...]:
        """Return the canonical JSON of a label's value in each of the varying fields; none for plain texts."""
        if not self.fields:
            return (label,) if self.varying else ()
        said = json_object(label) or {}
        return tuple(canonical(said[field]) for field in self.fields)

    def display(self, label: str) -> str:
        """Return a label as people read it: a JSON string without its quotes, anything else as it is."""
        if self.field is None or not label.startswith('"'):
            return label
        return msgspec.json.decode(label, type=str)

    def to_json(self) -> dict[str, Any]:
        """Return what the manifest holds."""
        told = {"kind": self.kind, "answers": list(self.answers), "forms": list(self.forms), "field": self.field,
                "counts": list(self.counts), "outside": self.outside}  # fmt: skip
        return told | ({"fields": list(self.fields)} if self.fields else {})

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> AnswerSpace:
        """Read what `to_json` wrote; raise DataError where it is something else."""
        try:
            stored = msgspec.convert(value, _Stored)
        except msgspec.ValidationError as error:
            raise DataError(f"An answer space cannot be read: {error}. What AnswerSpace.to_json writes was expected; "
                            "train the version again.") from error  # fmt: skip
        return cls(stored.kind, tuple(stored.answers), tuple(stored.forms), stored.field, tuple(stored.counts),
                   stored.outside, tuple(stored.fields))  # fmt: skip

    def _check_kind(self) -> None:
        sound = {
            "label": not self.varying,
            "json_field": self.field is not None and not self.fields,
            "json_fields": self.field is None and len(self.fields) == len(set(self.fields)) > 1,
        }
        if not sound.get(self.kind, False):
            raise DataError(
                f"An answer space has kind {self.kind!r}, field {self.field!r} and fields {self.fields!r}; 'label' "
                "without a field, 'json_field' with one or 'json_fields' with several was expected. Train the version "
                "again."
            )
        if self.fields and any((json_object(each) or {}).keys() != set(self.fields) for each in self.answers):
            raise DataError(
                f"An answer space of the fields {self.fields!r} has an answer without just these; the canonical object "
                "of them was expected of each. Train the version again."
            )

    def _said(self, raw: str) -> str | None:
        """Return what a reply says in the fields that vary, where it has these and the constant ones alone."""
        reply = json_object(raw)
        if reply is None or reply.keys() != {*self._constants, *self.varying}:
            return None
        if any(canonical(reply[key]) != value for key, value in self._constants.items()):
            return None
        return canonical(reply[self.field] if self.field is not None else {key: reply[key] for key in self.fields})


class _Stored(msgspec.Struct, forbid_unknown_fields=True):
    kind: str
    answers: list[str]
    forms: list[str]
    field: str | None
    counts: list[int]
    outside: int
    fields: list[str] = []
