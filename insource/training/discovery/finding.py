"""From a log to proposed tasks: group by what is constant, ask what the answers are, model what is worth it.

It knows examples; not files, the ledger or the gateway's matcher. Nothing here is written down or sent anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insource.config.template import user_literals
from insource.errors import DataError
from insource.inputs import InputSettings
from insource.training.develop import Promise
from insource.training.discovery.answer_kinds import AnswerKind, Answers, answers_of
from insource.training.discovery.figures import Prices, days_of, repetition_of, volume_of
from insource.training.discovery.matching import Log
from insource.training.discovery.merging import ROWS, Sample, merged
from insource.training.discovery.modelling import FEWEST_TO_FIT, Modelled, model
from insource.training.discovery.naming import names
from insource.training.discovery.proposal import Proposal, Volume, volume_json, wording_json
from insource.training.discovery.siblings import rejoined
from insource.training.discovery.templates import FEWEST_WORDS
from insource.training.discovery.tokens import ends_alike, words_in
from insource.training.discovery.wordings import VARIED, SchemaOf, Wording, group, text_of_user
from insource.training.students.heads import heads_of
from insource.types import Example, Request, Task

PROFILE_ROWS = 3_000
READ_FOR_REPEATS = 50_000
Say = Callable[[str], Callable[[int, int | None], None]]


@dataclass(frozen=True, slots=True)
class Left:
    """A group that is not proposed, and why."""

    wording: Wording
    example: str
    answers: Answers
    volume: Volume
    why: str


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a log holds: proposals and what is left, both largest first.

    `rare` requests stand in groups of fewer than `support`; `textless` have no text of the user.
    """

    requests: int
    days: float | None
    proposals: tuple[Proposal, ...]
    left: tuple[Left, ...]
    support: int
    rare: int
    textless: int

    def to_json(self) -> dict[str, Any]:
        """Return what --json holds."""
        return {
            "requests": self.requests,
            "days": self.days,
            "support": self.support,
            "rare": self.rare,
            "textless": self.textless,
            "proposals": [proposal.to_json() for proposal in self.proposals],
            "left": [
                {
                    **volume_json(each.volume),
                    "answer_kind": each.answers.kind.value,
                    "distinct_answers": each.answers.distinct,
                    "why": each.why,
                    "wording": wording_json(each.wording, each.example, False),
                }
                for each in self.left
            ],
        }


def discover(
    examples: Sequence[Example],
    *,
    schema_of: SchemaOf,
    promise: Promise,
    say: Say,
    prices: Prices | None = None,
    taken: Collection[str] = (),
) -> Discovery:
    """Return the tasks that a log holds.

    `schema_of` names the schema that a request asks for, as `match.schema` takes it; `taken` are names that proposals
    may not have. Raises DataError for an empty log.
    """
    if not examples:
        raise DataError("The log has no requests; at least 20 alike are needed to propose a task. Bring a longer log.")
    prices, days = prices or Prices(), days_of(examples)
    schemas = [schema_of(example.request) for example in examples]
    by_request = {id(example.request): schema for example, schema in zip(examples, schemas, strict=True)}

    def known(request: Request) -> str | None:
        return by_request[id(request)]

    grouped = group(examples, known, say("grouping"))
    kinds = [answers_of([examples[row].answer for row in wording.rows]) for wording in grouped.wordings]
    wordings, kinds = rejoined(grouped.wordings, kinds, examples)
    open_ = [number for number, answers in enumerate(kinds) if _why_left(answers) is not None]
    closed = [number for number in range(len(kinds)) if number not in set(open_)]
    jobs = _jobs(examples, wordings, kinds, closed, say)

    def volume(rows: NDArray[np.intp]) -> Volume:
        return volume_of(examples, rows, days, prices.of, prices.currency)

    left = [
        Left(wording, examples[wording.rows[0]].request.id, kinds[number], volume(wording.rows), why)
        for number in open_
        if (why := _why_left(kinds[number])) and (wording := wordings[number])
    ]
    together = [tuple(wordings[number] for number in job) for job in jobs]
    together.sort(key=lambda job: -sum(len(wording.rows) for wording in job))
    chosen = names([_instruction(job) for job in together],
                   [job[0].frame.task for job in together], taken)  # fmt: skip
    log, report, proposals = Log(examples, schemas), say("modelling"), []
    for number, (name, job) in enumerate(zip(chosen, together, strict=True)):
        report(number, len(together))
        rows = np.sort(np.concatenate([wording.rows for wording in job]))
        proposals.append(_proposal(name, job, examples, volume(rows), log, promise))
    report(len(together), len(together))
    return Discovery(len(examples), days, tuple(proposals), tuple(left), grouped.support, grouped.rare,
                     grouped.textless)  # fmt: skip


def _why_left(answers: Answers) -> str | None:
    """Return why a wording is not proposed; None where it is."""
    if answers.kind is AnswerKind.NONE:
        return "no answers in the log"
    if answers.kind is AnswerKind.ONE:
        return "always the same answer: nothing has to be decided"
    if answers.kind is AnswerKind.FREE:
        return "free text: answers come from no closed set"
    return None


def _jobs(
    examples: Sequence[Example], wordings: Sequence[Wording], kinds: Sequence[Answers], closed: Sequence[int], say: Say
) -> list[list[int]]:
    """Return the wordings that belong together, by number."""
    samples = []
    for number in closed:
        wording, answers = wordings[number], kinds[number]
        texts, labels = _labelled([wording], examples, answers, ROWS, wording.variable)
        samples.append(Sample(_bare(texts), labels, answers, _around(wording), wording.frame.task))
    return [[closed[place] for place in job] for job in merged(samples, say("comparing wordings"))]


def _bare(texts: list[str]) -> list[str]:
    """Return texts without what all of them begin and end with, be it a template's or the data's own."""
    if not texts:
        return texts
    head, tail = ends_alike(texts)
    return [text[len(head) : len(text) - len(tail)] for text in texts]


def _around(wording: Wording) -> tuple[str, ...] | None:
    """Return what surely stands around a wording's data; None where that is too little to say that it is the same."""
    head, tail = wording.literals[0], wording.literals[-1]
    if wording.frame.system_known:
        return (wording.frame.system or "", *(wording.frame.system_template or ()))
    return (head, tail if words_in((tail,)) else "") if words_in((head, tail)) >= FEWEST_WORDS else None


def _labelled(
    wordings: Sequence[Wording],
    examples: Sequence[Example],
    answers: Answers,
    most: int,
    seen: Callable[[str], str | None],
) -> tuple[list[str], list[str]]:
    """Return what is `seen` of texts, and labels, of at most `most` requests, evenly spaced over the log."""
    where = sorted(int(row) for wording in wordings for row in wording.rows)
    step = max(len(where) / most, 1.0)
    texts, labels = [], []
    for row in (where[int(place * step)] for place in range(int(len(where) / step))):
        answer = examples[row].answer
        label = None if answer is None else answers.label_of(answer)
        if label is not None:
            texts.append(seen(text_of_user(examples[row].request) or "") or "")
            labels.append(label)
    return texts, labels


def _proposal(
    name: str, wordings: tuple[Wording, ...], examples: Sequence[Example], volume: Volume, log: Log, promise: Promise
) -> Proposal:
    rows = [int(row) for wording in wordings for row in wording.rows]
    raw = [examples[row].answer for row in sorted(rows)]
    answers = answers_of(raw)
    claims = log.claims(wordings)
    inputs = InputSettings(templates=user_literals(Task(name, match=claims.match)))
    texts, labels = _labelled(wordings, examples, answers, PROFILE_ROWS, inputs.text_of_user)
    modelled: Modelled | None = None
    why_not: str | None = None
    if answers.space is None:
        why_not = "several fields vary in too many combinations, or one takes open values: no closed set"
    else:
        classes = np.array([answers.space.index(label) for label in labels], np.intp)
        modelled = model(texts, classes, answers.space.answers, promise, heads_of(answers.space))
        why_not = None if modelled else f"{len(texts)} labelled rows; at least {FEWEST_TO_FIT} differing were expected"
    return Proposal(
        name,
        wordings,
        tuple(examples[wording.rows[0]].request.id for wording in wordings),
        answers,
        volume,
        repetition_of(*_asked(wordings, examples, answers)),
        modelled,
        why_not,
        claims,
        promise.target_risk,
        promise.confidence_level,
    )


def _asked(
    wordings: Sequence[Wording], examples: Sequence[Example], answers: Answers
) -> tuple[list[str], list[str | None]]:
    """Return variable texts and answers (labels where there is a closed set) of the first 50,000 requests."""
    texts: list[str] = []
    given: list[str | None] = []
    for wording in wordings:
        for row in wording.rows[: max(READ_FOR_REPEATS - len(texts), 0)]:
            texts.append(wording.variable(text_of_user(examples[row].request) or ""))
            given.append(examples[row].answer)
    return texts, answers.space.normalise_all(given) if answers.space is not None else given


def _instruction(wordings: Sequence[Wording]) -> str:
    """Return what is fixed in a job's requests, for its name."""
    fixed: list[str] = []
    for wording in wordings:
        frame = wording.frame
        fixed += [frame.schema if frame.schema and not frame.schema.startswith("sha256:") else "", *wording.literals]
        fixed += [*(frame.system_template or ()), "" if frame.system in (None, VARIED) else frame.system or ""]
    return " ".join(part for part in fixed if part)
