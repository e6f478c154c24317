"""A recorded stream in arrays: what each request asked, what the reference was, and what it cost.

It knows one task's examples in their order; not what a cascade makes of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from insource.answers import learn_answers
from insource.errors import DataError
from insource.inputs import InputSettings
from insource.training.duplicates import near_duplicate_groups
from insource.types import Example, Request, Usage

CHARACTERS_PER_TOKEN = 4
MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Stream:
    """One task's requests in their order, each with a text and a reference.

    `references` are as the teacher wrote them, `gold` where there is gold. `groups` int (n,) names near-duplicates.
    `unlabelled` requests had no reference and `textless` ones no text; both are left out.
    """

    requests: tuple[Request, ...]
    texts: tuple[str, ...]
    references: tuple[str, ...]
    gold: tuple[str | None, ...]
    usages: tuple[Usage, ...]
    groups: NDArray[np.intp]
    unlabelled: int = 0
    textless: int = 0

    def __len__(self) -> int:
        return len(self.requests)


def to_stream(examples: Sequence[Example], inputs: InputSettings) -> Stream:
    """Return the examples that have a text and a reference.

    Raises DataError where none has, OpenEndedAnswers where the references are not a closed set.
    """
    labelled = [example for example in examples if example.answer is not None or example.gold is not None]
    read = [(example, text) for example in labelled if (text := inputs.text_of(example.request)) is not None]
    if not read:
        raise DataError(
            f"None of {len(examples):,} requests has both a text and a reference; an answer in each line was expected "
            "('answer' or 'label'). Record the upstream's answers first."
        )
    references = tuple(_reference(example) for example, _ in read)
    learn_answers(references)
    texts = tuple(text for _, text in read)
    return Stream(
        requests=tuple(example.request for example, _ in read),
        texts=texts,
        references=references,
        gold=tuple(example.gold for example, _ in read),
        usages=tuple(example.usage or estimated_usage(example) for example, _ in read),
        groups=near_duplicate_groups(texts, [example.group for example, _ in read]),
        unlabelled=len(examples) - len(labelled),
        textless=len(labelled) - len(read),
    )


def estimated_usage(example: Example) -> Usage:
    """Return tokens estimated at four characters each, where the traffic does not say."""
    asked = sum(len(message.text or "") for message in example.request.messages)
    return Usage(_tokens(asked), _tokens(len(_reference(example))))


def cost_of(usage: Usage, price_in: Decimal, price_out: Decimal) -> Decimal:
    """Return the money a reply costs; prices are per million tokens."""
    return (price_in * usage.prompt_tokens + price_out * usage.completion_tokens) / MILLION


def _tokens(characters: int) -> int:
    return max(1, -(-characters // CHARACTERS_PER_TOKEN))


def _reference(example: Example) -> str:
    reference = example.answer if example.answer is not None else example.gold
    assert reference is not None
    return reference
