"""Which template a prompt follows, at a cost that does not depend on how many templates there are.

It knows prompts and fixed texts; neither tasks nor requests. Templates are filed by how they begin and how they end,
whole, so only those that share both with the prompt are compared with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from insource.cascade.prefixes import Prefixes
from insource.inputs import in_slots, slots_of

_Owner = TypeVar("_Owner")


def follows(prompt: str, literals: Sequence[str]) -> bool:
    """Say whether a prompt is the fixed texts in their order with one character or more between any two."""
    return slots_of(prompt, literals) is not None


def fills(text: str, literals: Sequence[str]) -> bool:
    """Say whether a text follows a template with more than blanks in its slots: something for a specialist to see."""
    return in_slots(text, literals) is not None


@dataclass(frozen=True, slots=True)
class Template(Generic[_Owner]):
    """The fixed texts before, between and after the slots of one template, and whose it is.

    `name` decides between templates that have equally many fixed characters.
    """

    literals: tuple[str, ...]
    name: str
    owner: _Owner

    @property
    def rank(self) -> tuple[int, str]:
        """The more specific, the smaller."""
        return -sum(map(len, self.literals)), self.name


class Templates(Generic[_Owner]):
    """Templates to be found by prompt. Where several match, the one with more fixed characters wins, then by name."""

    def __init__(self, templates: Iterable[Template[_Owner]]) -> None:
        filed: dict[str, dict[str, list[Template[_Owner]]]] = {}
        for template in templates:
            head, tail = template.literals[0], template.literals[-1]
            filed.setdefault(head, {}).setdefault(tail[::-1], []).append(template)
        self._filed = Prefixes({head: Prefixes(by_end) for head, by_end in filed.items()})
        self._longest_end = max((len(end) for by_end in filed.values() for end in by_end), default=0)

    def __bool__(self) -> bool:
        return len(self._filed) > 0

    def find(self, prompt: str, fits: Callable[[str, Sequence[str]], bool] = follows) -> _Owner | None:
        """Return the owner of the most specific template that the prompt fits, or None."""
        followed = [template for template in self.candidates(prompt) if fits(prompt, template.literals)]
        return min(followed, key=lambda template: template.rank).owner if followed else None

    def candidates(self, prompt: str) -> Iterator[Template[_Owner]]:
        """Give the templates that begin and end as the prompt does."""
        from_end = prompt[max(len(prompt) - self._longest_end, 0) :][::-1]
        for by_end in self._filed.of(prompt):
            for templates in by_end.of(from_end):
                yield from templates
