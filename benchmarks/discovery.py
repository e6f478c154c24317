"""Does `insource discover` find the jobs of a mixed log, and only those? 100,000 real texts behind our own templates.

Ten labelled sets, each asked for in three wordings, one templated job with free answers, and free chat. `HELD_BACK`
was written at the start and not looked at until the first full run, which was clean; a later one mixed hate with
offence when siblings were introduced, and that was mended, so by now it is no longer unseen.
"""

from __future__ import annotations

import gzip
import json
import random
import resource
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.figure import Figure, insource
from insource.traffic import read, write

REQUESTS = 100_000
QUICK = 10_000
SECONDS = 60.0
START = datetime(2026, 10, 1, tzinfo=UTC)
Row = dict[str, Any]

HELPFUL = "You are a helpful assistant."
DESK = "You work for the customer desk of Northwind. Be brief and polite."


@dataclass(frozen=True)
class Job:
    """A labelled set as somebody would ask for it: (system prompt or None, user's template) three times."""

    answer: Callable[[Row], str]
    wordings: tuple[tuple[str | None, str], ...]
    most: int = 12_000


def _label(row: Row) -> str:
    return str(row["label"])


def _yes(label: str) -> Callable[[Row], str]:
    return lambda row: "Yes" if row["label"] == label else "No"


def _slots(row: Row) -> str:
    found = {entity["label"]: entity["text"] for entity in row["entities"]}
    return json.dumps({key: found.get(key) for key in ("date", "time", "people", "first_name", "last_name")})


JOBS = {
    "banking77": Job(_label, (
        ("You route messages of bank customers. Reply with the name of the intent and nothing else.", "{text}"),
        (HELPFUL, "Which intent does this banking question have? Reply with its name only.\n\nQuestion: {text}"),
        (None, "{text}\n\n---\nName the intent of the customer's question above. One label, no explanation."),
    )),
    "twitter_financial_news": Job(_label, (
        (None, "Read the following tweet.\n\n{text}\n\nSay whether it is bullish, bearish or neutral for the stock."),
        ("Classify market tweets as bullish, bearish or neutral.", "Tweet: {text}"),
        (HELPFUL, "What is the sentiment of this tweet about a stock (bullish, bearish, neutral)? {text}"),
    ), 11_000),
    "tweeteval_offensive": Job(_yes("offensive"), (
        (None, "Read the following tweet.\n\n{text}\n\nIs it offensive? Answer yes or no."),
        (HELPFUL, "Is this tweet offensive? Answer yes or no.\n{text}"),
        ("You moderate a forum. Say Yes if a post is offensive to somebody, else No.", "{text}"),
    )),
    "sms_spam": Job(_yes("spam"), (
        (None, "Is this message spam? Answer yes or no.\n{text}"),
        (DESK, "Message from a phone:\n\"\"\"\n{text}\n\"\"\"\nSpam? Answer yes or no."),
        (None, "{text}\n\nIs the text message above unwanted advertising or fraud? Answer yes or no."),
    )),
    "trec_questions": Job(lambda row: json.dumps({"type": row["label"]}), (
        ("What does a question ask for? Return JSON with the field type.", "{text}"),
        (None, "Return JSON with the field type for this question: {text}"),
        (DESK, "Question: {text}\nWhich type of answer is expected? Return JSON."),
    )),
    "restaurant8k": Job(_slots, (
        ("Extract date, time, people, first_name and last_name as JSON. Use null for what is not said.", "{text}"),
        (None, "Extract the booking details from the message below as JSON.\n\nMessage:\n{text}"),
        (DESK, "{text}\n\nReturn the details of the booking above as JSON, null where nothing is said."),
    ), 10_000),
    "fever_symmetric": Job(_yes("grounded"), (
        (None, "Evidence: {context}\nClaim: {answer}\nDoes the evidence support the claim? Answer yes or no."),
        (HELPFUL, "Here is a claim: {answer}\n\nAnd here is a source: {context}\n\nIs the claim supported? Yes or no."),
        ("Check claims against their sources. Answer yes or no.", "Claim: {answer}\nSource: {context}"),
    )),
}  # fmt: skip
HELD_BACK = {
    "tweeteval_hate": Job(_yes("hate"), (
        (None, "Read the following tweet.\n\n{text}\n\nIs it hateful against women or immigrants? Answer yes or no."),
        (HELPFUL, "Does this tweet contain hate speech? Answer yes or no.\n{text}"),
        ("You moderate posts. Say Yes where a post attacks women or immigrants, else No.", "Post: {text}"),
    ), 11_000),
    "snips": Job(_label, (
        (None, "Voice command: \"{text}\"\nIntent:"),
        ("You are the language understanding of a voice assistant. Reply with the intent's name.", "{text}"),
        (HELPFUL, "Which of our seven intents is meant by the following command?\n\n{text}"),
    )),
    "unsafe_queries": Job(_yes("unsafe"), (
        (None, "Is this query unsafe to answer? Answer yes or no.\n{text}"),
        (DESK, "A user asks: {text}\n\nWould a helpful answer do harm? Answer yes or no."),
        ("You guard an assistant. Answer yes where a query asks for harm, else no.", "{text}"),
    )),
}  # fmt: skip
SUMMARY = "Summarise the dialogue in one sentence.\n\n{text}"
SUMMARIES = 2_000


def rows_of(data: Path, name: str) -> Iterator[Row]:
    """Give the rows of all splits of a set, in the order of the files' names."""
    for path in sorted((data / name).glob("*.jsonl*")):
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            yield from map(json.loads, lines)


def chat(data: Path) -> Iterator[tuple[list[Row], str]]:
    """Give free chat: questions with their answers, and the turns of conversations with the next turn."""
    for row in rows_of(data, "halueval_qa"):
        yield [{"role": "user", "content": row["question"]}], row["answer"]
    for row in rows_of(data, "canard"):
        if len(row["history"]) >= 4:
            yield [{"role": "user", "content": row["history"][2]}], row["history"][3]
    for row in rows_of(data, "dialogsum"):
        turns = [turn.partition(": ")[2] for turn in row["text"].split("\n") if turn.startswith("#Person")]
        for end in (2, 4):
            if len(turns) >= end:
                roles = ("user", "assistant") * end
                said = [{"role": role, "content": turn} for role, turn in zip(roles, turns[: end - 1], strict=False)]
                yield said, turns[end - 1]


def entries(data: Path, jobs: dict[str, Job], seed: int) -> list[tuple[str, list[Row], str]]:
    """Return (what it is, messages, answer) of every request, jobs first."""
    coin = random.Random(seed)
    found: list[tuple[str, list[Row], str]] = []
    for name, job in jobs.items():
        rows = [row for row in rows_of(data, name) if str(row.get("text") or row.get("answer")).strip()]
        coin.shuffle(rows)
        for row in rows[: job.most]:
            system, user = job.wordings[coin.randrange(3)]
            text = user.format(**{key: row.get(key) for key in ("text", "context", "answer")})
            found.append((name, _said(system, text), job.answer(row)))
    dialogues = [row for row in rows_of(data, "dialogsum") if row.get("answer")][:SUMMARIES]
    found += [("summaries", _said(None, SUMMARY.format(**row)), row["answer"]) for row in dialogues]
    talk = [(messages, answer) for messages, answer in chat(data) if messages[-1]["content"].strip()]
    coin.shuffle(talk)
    for messages, answer in talk[: REQUESTS - len(found)]:
        system = coin.choice((None, None, HELPFUL, DESK))
        found.append(("chat", ([{"role": "system", "content": system}] if system else []) + messages, answer))
    return found


def _said(system: str | None, text: str) -> list[Row]:
    spoken = [{"role": "user", "content": text}]
    return [{"role": "system", "content": system}, *spoken] if system else spoken


def build(data: Path, path: Path, jobs: dict[str, Job], *, seed: int = 0, most: int = REQUESTS) -> dict[datetime, str]:
    """Write the log and return, by time, what each request is."""
    lines = entries(data, jobs, seed)
    random.Random(seed + 1).shuffle(lines)
    lines = lines[:most]
    times = [START + timedelta(seconds=25 * number) for number in range(len(lines))]
    write(path, (
        {"messages": messages, "answer": answer, "time": time, "model": "gpt-4o"}
        for time, (_, messages, answer) in zip(times, lines, strict=True)
    ))  # fmt: skip
    return {time: name for time, (name, _, _) in zip(times, lines, strict=True)}


def score(truth: dict[datetime, str], folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Return what was found: for each proposal what its requests are, and for each job its proposals."""
    inside: dict[str, Counter[str]] = {}
    for proposal in result["proposals"]:
        path = folder / f"{proposal['task']}.jsonl"
        inside[proposal["task"]] = Counter(truth[example.time] for example in read(path).examples if example.time)
    totals, by_job = Counter(truth.values()), defaultdict(dict)
    for name, counts in inside.items():
        by_job[counts.most_common(1)[0][0]][name] = counts
    covered = {job: sum(c[job] for c in by_job[job].values()) / totals[job] for job in totals}
    purity = {name: counts.most_common(1)[0][1] / counts.total() for name, counts in inside.items()}
    return {"jobs": {job: sorted(found) for job, found in by_job.items()}, "covered": covered, "purity": purity}


def run(data: Path, home: Path, *, quick: bool) -> list[Figure]:
    """Build the log, run the command once, and compare."""
    jobs = JOBS | HELD_BACK
    path, folder = home / "discovery.jsonl", home / "discovery"
    truth = build(data, path, jobs, most=QUICK if quick else REQUESTS)
    for old in folder.glob("*.jsonl"):
        old.unlink()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result, seconds = insource(home, "discover", path, "--write", folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    seen = score(truth, folder, result)
    held = [f"{name} {len(seen['jobs'].get(name, ()))}" for name in HELD_BACK]
    return [
        *figures(jobs, seen, len(truth), seconds),
        Figure("proposals for the jobs held back", ", ".join(held)),
        Figure("processor seconds; memory at its highest", f"{worked:.0f} s; {after.ru_maxrss / 1024:.0f} MB"),
    ]


def figures(jobs: dict[str, Job], seen: dict[str, Any], requests: int, seconds: float) -> list[Figure]:
    """Return the figures of one scored run."""
    found = [job for job in jobs if seen["covered"][job] >= 0.95]
    mixed = {name: share for name, share in seen["purity"].items() if share < 0.99}
    chatty = [name for job in ("chat", "summaries") for name in seen["jobs"].get(job, ())]
    count = sum(len(seen["jobs"].get(job, ())) for job in jobs)
    lowest = min(seen["covered"][job] for job in jobs)
    return [
        Figure("jobs found (95 % of their requests or more)", f"{len(found)} of {len(jobs)} (least {lowest:.1%})",
               "all", len(found) == len(jobs)),
        Figure("proposals that mix two jobs (over 1 % of another)", str(mixed or 0), "0", not mixed),
        Figure("proposals of free chat or free summaries", str(chatty or 0), "0", not chatty),
        Figure("proposals for the jobs' thirty wordings", str(count), "ideally one a job"),
        Figure(f"seconds for {requests:,} requests, all included", f"{seconds:.0f} s", f"< {SECONDS:.0f} s",
               seconds < SECONDS),
    ]  # fmt: skip
