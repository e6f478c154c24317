"""From the teacher's raw answers to the closed set they come from, or a refusal with the figures that show why.

It knows answers only as texts and counts; nothing of requests, gold or tasks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

from insource.answers.folding import canonical, fold, json_object
from insource.answers.space import AnswerSpace
from insource.errors import DataError, OpenEndedAnswers

MAX_NEW_SHARE = 0.10
"""The share of the next requests that may bring an answer never seen; above it the answers are open-ended."""

MAX_ANSWERS = 1_000
"""More distinct answers than this are no closed set, however often each occurs."""

_NORMAL_95 = 1.645


def learn_answers(raw_answers: Sequence[str]) -> AnswerSpace:
    """Return the closed set that answers come from, the most frequent first; blank answers do not count.

    JSON objects with the same keys, of which one field varies, become a "json_field" space, or, where several vary, a
    "json_fields" space of the combinations that were seen; everything else becomes a "label" space. A few answers of
    another form (at most MAX_NEW_SHARE) stay outside and are counted.
    Raises OpenEndedAnswers where the answers, or the values of one of several fields, are no closed set, and DataError
    where there is no answer or only one.
    """
    texts = Counter(raw for raw in raw_answers if raw and not raw.isspace())
    total = texts.total()
    if not total:
        raise DataError(f"None of the {len(raw_answers):,} requests has an answer; labelled requests were expected. "
                        "Give each line an 'answer'.")  # fmt: skip
    objects = {raw: value for raw in texts if (value := json_object(raw)) is not None}
    in_json = sum(texts[raw] for raw in objects)
    if in_json < (1 - MAX_NEW_SHARE) * total:
        if in_json > MAX_NEW_SHARE * total:
            raise DataError(
                f"{in_json:,} of {total:,} answers are JSON objects and the others are not; one form was expected. "
                "Split the traffic into one task per form."
            )
        return _space("label", {raw: label for raw in texts if (label := fold(raw)) is not None}, texts, total)
    return _json_space(objects, texts, total)


def _json_space(objects: Mapping[str, dict[str, Any]], texts: Counter[str], total: int) -> AnswerSpace:
    keys: Counter[tuple[str, ...]] = Counter()
    for raw, value in objects.items():
        keys[tuple(sorted(value))] += texts[raw]
    usual, rows = min(keys.items(), key=lambda item: (-item[1], item[0]))
    if rows < (1 - MAX_NEW_SHARE) * total:
        raise DataError(
            f"Only {rows:,} of {total:,} answers are JSON objects with the fields {_listed(usual)}; the same fields in "
            "every answer were expected. Ask the teacher for one fixed form, or split the traffic into tasks."
        )
    alike = {raw: value for raw, value in objects.items() if tuple(sorted(value)) == usual}
    values = {key: {raw: canonical(value[key]) for raw, value in alike.items()} for key in usual}
    distinct = {key: len(set(by_raw.values())) for key, by_raw in values.items()}
    varying = [key for key in usual if distinct[key] > 1]
    if not usual:
        raise DataError(f"All {rows:,} answers are the empty JSON object; a field with at least two values was "
                        "expected. Check which part of the reply the file records.")  # fmt: skip
    if len(varying) > 1:
        return _fields_space(varying, alike, values, texts, total)
    field = varying[0] if varying else usual[0]
    return _space("json_field", values[field], texts, total, f"distinct values of the field {field!r}", field)


def _fields_space(
    fields: Sequence[str],
    objects: Mapping[str, dict[str, Any]],
    values: Mapping[str, Mapping[str, str]],
    texts: Counter[str],
    total: int,
) -> AnswerSpace:
    """Return the space of the combinations seen, having refused a field that is no closed set by its name."""
    told = []
    for field in fields:
        counts = _counts(values[field], texts)
        _check_closed(counts, total - counts.total(), total, f"distinct values of the field {field!r}")
        told.append(f"{field!r} ({len(counts):,} values)")
    labels = {raw: canonical({field: value[field] for field in fields}) for raw, value in objects.items()}
    what = f"distinct combinations of the fields {', '.join(told)}"
    return _space("json_fields", labels, texts, total, what, fields=tuple(fields))


def _counts(labels: Mapping[str, str], texts: Counter[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for raw, label in labels.items():
        counts[label] += texts[raw]
    return counts


def _space(
    kind: str,
    labels: Mapping[str, str],
    texts: Counter[str],
    total: int,
    what: str = "distinct answers",
    field: str | None = None,
    fields: tuple[str, ...] = (),
) -> AnswerSpace:
    """Count labels, refuse what is no closed set, and keep for each label its most common raw text."""
    counts = _counts(labels, texts)
    forms: dict[str, list[str]] = defaultdict(list)
    for raw, label in labels.items():
        forms[label].append(raw)
    if len(counts) == 1:
        raise DataError(
            f"All {total:,} requests have the answer {_short(next(iter(counts)))}; at least two answers were expected. "
            "Nothing has to be decided here; check that the file records the right field."
        )
    outside = total - counts.total()
    _check_closed(counts, outside, total, what)
    order = sorted(counts, key=lambda label: (-counts[label], label))
    usual = tuple(min(forms[label], key=lambda raw: (-texts[raw], raw)) for label in order)
    return AnswerSpace(kind, tuple(order), usual, field, tuple(counts[label] for label in order), outside, fields)


def _check_closed(counts: Counter[str], outside: int, total: int, what: str) -> None:
    """Raise OpenEndedAnswers where new answers keep coming; `what` is counted.

    N1/N, the share of requests whose answer occurs once, estimates the chance that the next answer is new (Good 1953,
    "The population frequencies of species and the estimation of population parameters", section 3). Refused where its
    lower 95 % bound, with the standard error of Esty 1983 ("A normal limit law for a nonparametric estimator of the
    coverage of a random sample"), is above MAX_NEW_SHARE, so that small files are not refused by chance.
    """
    once = sum(count == 1 for count in counts.values()) + outside
    twice = sum(count == 2 for count in counts.values())
    share = once / total
    error = sqrt(max(once * (1 - share) + 2 * twice, 0.0)) / total
    if len(counts) <= MAX_ANSWERS and share - _NORMAL_95 * error <= MAX_NEW_SHARE:
        return
    limit = "" if len(counts) <= MAX_ANSWERS else f", and at most {MAX_ANSWERS:,} answers"
    raise OpenEndedAnswers(
        f"{len(counts):,} {what} in {total:,} requests; {100 * share:.0f} % of the requests have an answer seen only "
        f"once; a closed set was expected (at most {100 * MAX_NEW_SHARE:.0f} %{limit}). A specialist can only choose "
        "among answers it has seen: bring more requests if they come from a fixed list, else leave this task upstream."
    )


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(repr(key) for key in keys) or "none"


def _short(label: str) -> str:
    return repr(label if len(label) <= 60 else label[:57] + "...")
