"""A5: what clients were told of mixed requests and what the ledger holds match 1:1; without it nobody is served.

The gateway is `insource serve` with two workers. Each request bears a mark of its client's; the ledger's rows are told
by the text they keep, or by the digest that proves it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import apsw

from insource.store.ledger import FILE
from insource.store.ledger_reader import LedgerReader, LedgerRow
from insource.store.registry import Registry
from insource.types import Content, Outcome, Stage
from reliability.forgetful_gateway import FORGETFUL
from reliability.harness import Promise, Tally
from reliability.load import NOON
from reliability.matching_upstream import MatchingUpstream, mark_in
from reliability.mixed_requests import ADMINISTRATIVE, ANSWERED, LEFT, Asked, Askers, make_keys
from reliability.raw_http import Wire
from reliability.running_gateway import RunningGateway, post, running, until
from reliability.served import make_home

BATCH = 2_000
"""Requests of one home; after them its ledger is held up, in one of these ways."""
OUTAGES = ("stopped", "failing", "killed")
GOVERNED = ("gpt-4o", "task:triage", "task:secret", "task:best")
TASKS = ("triage", "shadowed", "best", "review", "secret", "slow", "failing")
ABOVE = {"passed up", "passed up, streamed", "passed on", "embedded above", *LEFT}
"""Kinds that an upstream is asked for, whatever the specialist would say."""
RESTRICTED = {"kept, best", "kept, review", "refused as restricted"}
"""Kinds that no upstream may be asked for."""
WRONG = (
    "without a record", "recorded twice", "recorded undecided", "records of nobody", "not settled", "told otherwise",
    "another text", "acts not once", "audits not once",
    "not asked above", "asked above unsaid", "served without a record", "not refused",
)  # fmt: skip


async def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Send one request for each case, two thousand to a home; `broken` forgets one row in a hundred."""
    tally = Tally()
    for first in range(cases.start, cases.stop, BATCH):
        home = folder / str(first)
        async with MatchingUpstream() as upstream:
            await _try(tally, range(first, min(first + BATCH, cases.stop)), home, upstream, broken)
        shutil.rmtree(home)
    return tally


def judge(tally: Tally) -> list[str]:
    """Everything matches, and nobody was served while nothing could be recorded."""
    counts = tally.counts
    found = [f"{what}: {counts[what]:,} of {counts['requests']:,} requests" for what in WRONG if counts[what]]
    if not counts["decided"] or not counts["undecided"] or not counts["outages"] or not counts["audits"]:
        found.append("not everything was tried")
    return found


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    wrong = ", ".join(f"{counts[what]:,} {what}" for what in WRONG)
    ways = ", ".join(f"{counts[f'ledger {kind}']:,} {kind}" for kind in OUTAGES)
    return (
        f"{counts['requests']:,} requests of "
        f"{sum(name.startswith('kind ') for name in counts)} kinds: {counts['decided']:,} decided and "
        f"{counts['rows']:,} on record ({counts['marks']:,} by their text, {counts['proved']:,} by its digest), "
        f"{counts['undecided']:,} refused before, {counts['acts']:,} acts and answers, {counts['audits']:,} audits; "
        f"{wrong}; {counts['outages']:,} outages ({ways}): {counts['asked in an outage']:,} asked, "
        f"{counts['503 in an outage']:,} told 503, {counts['unreachable']:,} found nobody"
    )


def _make(home: Path, upstream: str) -> tuple[Path, dict[str, str]]:
    """Return the configuration of a home in which every kind of request has its task, and the clients' keys."""
    file = make_home(home, upstream)
    restricted = ("best", "review", "secret")
    lines = [
        "[gateway]", "port = 0", "workers = 2", "drain_s = 2", 'default_upstream = "stub"',
        "[store]", f'home = "{home}"',
        "[upstreams.stub]", f'base_url = "{upstream}"', 'model = "stub"', "max_reply_tokens = 100",
        "[upstreams.bad]", f'base_url = "{upstream}"', 'model = "stub"', "retries = 0",
    ]  # fmt: skip
    for name in TASKS:
        lines += [f"[tasks.{name}]", 'content = "full"', f"audit_rate = {0.3 if name == 'shadowed' else 0}"]
        lines += ['sensitivity = "restricted"', f'when_kept = "{name}"'] if name in restricted[:2] else []
        lines += ['sensitivity = "restricted"'] if name == "secret" else ['upstream = "bad"'] * (name == "failing")
    file.write_text("\n".join(lines) + "\n")
    with Registry.open(home) as registry:
        active = registry.get("triage")
        for _ in range(2):
            registry.register("shadowed", active.family, active.digest, active.calibration, active.lineage, NOON)
        registry.promote("shadowed", 1, "soak", "a promise", NOON)
        registry.move("shadowed", 2, expected=Stage.CANDIDATE, to=Stage.SHADOW, who="soak", why="a promise", now=NOON)
        return file, make_keys(registry)


async def _try(tally: Tally, cases: range, home: Path, upstream: MatchingUpstream, broken: bool) -> None:
    file, keys = _make(home, upstream.url)
    build = ("reliability.forgetful_gateway", f"BROKEN={FORGETFUL if broken else ''}")
    async with running(file, *build) as gateway:
        askers = Askers(gateway.port, keys, upstream)
        await askers.ask(cases)
        with Registry.open(home) as registry:
            await until(lambda: not registry.outgoing_acts())
        gateway.signal(signal.SIGTERM)
        await gateway.process.wait()
    _match(tally, home, askers)
    async with running(file, *build) as gateway:
        await _hold_up(tally, cases[0], OUTAGES[cases.start // BATCH % len(OUTAGES)], gateway, keys["app"])


def _match(tally: Tally, home: Path, askers: Askers) -> None:
    """Hold every row against the request that it is of, and every request against its row."""
    tally.count("requests", len(askers.asked))
    by_id = {asked.request_id: case for case, asked in askers.asked.items() if asked.request_id is not None}
    rows: dict[int | None, list[LedgerRow]] = defaultdict(list)
    with LedgerReader(home) as ledger:
        for row in ledger.rows():
            rows[_case_of(tally, row, by_id, askers.asked, ledger)].append(row)
        _match_acts(tally, askers, ledger)
        audits = [audit for _, audit in ledger.audits()]
    for case, asked in askers.asked.items():
        _match_one(tally, case, asked, rows.pop(case, []), askers.upstream.marks[case] > 0)
    for row in (row for left in rows.values() for row in left):
        tally.fail(0, f"{row.decision}", "records of nobody")
    tally.count("audits", len(audits))


def _case_of(
    tally: Tally, row: LedgerRow, by_id: Mapping[str, int], asked: Mapping[int, Asked], ledger: LedgerReader
) -> int | None:
    """Return the number of the request that a row is of: by the text it keeps, else by the id that its client has."""
    tally.count("rows")
    by_text = None if row.content is None else mark_in(row.content.text)
    if by_text is not None:
        tally.count("marks")
        return by_text
    case = by_id.get(row.decision.request_id)
    if case is None:
        return None
    text = Content(row.decision.request_id, row.decision.time, None, asked[case].body.decode())
    tally.count("proved")
    if not ledger.proves(text):
        tally.fail(case, f"{asked[case].kind}: its row has the digest of another text", "another text")
    return case


def _match_one(tally: Tally, case: int, asked: Asked, rows: list[LedgerRow], above: bool) -> None:
    """Judge one request and the rows that are of it; `above` says that an upstream was asked for it."""
    kind, told = asked.kind, asked.reply
    tally.count(f"kind {kind}")
    if kind in ADMINISTRATIVE or kind not in ANSWERED | LEFT:
        tally.count("undecided", kind not in ADMINISTRATIVE)
        if rows or above or (kind not in ADMINISTRATIVE and told is not None and told.status < 400):
            tally.fail(case, f"{kind}: {len(rows)} rows, above {above}, {told}", "recorded undecided")
        return
    tally.count("decided")
    if len(rows) != 1:
        tally.fail(case, f"{kind}: {len(rows)} rows, {told}", "recorded twice" if rows else "without a record")
        return
    decision, settled = rows[0].decision, rows[0].settlement
    if settled is None:
        tally.fail(case, f"{kind}: {decision}", "not settled")
    elif asked.request_id not in (None, decision.request_id) or (
        told is not None and told.whole and told.status != settled.status
    ):
        tally.fail(case, f"{kind}: {told} for {decision}, {settled}", "told otherwise")
    elif kind in LEFT and settled.detail is None:
        tally.fail(case, f"{kind}: {settled}", "told otherwise")
    if above and (kind in RESTRICTED or (decision.outcome is not Outcome.ESCALATED and not decision.audited)):
        tally.fail(case, f"{kind}: {decision}, {settled}", "asked above unsaid")
    if kind in ABOVE and not above:
        tally.fail(case, f"{kind}: {decision}, {settled}", "not asked above")
    own = sum((audit.task, audit.version) == (decision.task, decision.version) for audit in rows[0].audits)
    if own != (decision.audited and decision.version is not None) or len(rows[0].audits) > 2:
        tally.fail(case, f"{kind}: {decision}, {rows[0].audits}", "audits not once")


def _match_acts(tally: Tally, askers: Askers, ledger: LedgerReader) -> None:
    """Hold acts and answers against what clients were told of theirs."""
    acts = [(act.what, act.subject) for act in ledger.acts() if act.who.startswith("key ")]
    due = [("create key", key) for key in askers.made] + [("revoke key", key) for key in askers.revoked]
    answers = {about: ledger.feedback(about) for about in set(askers.answers.values())}
    given = sorted((each.who, each.request_id) for found in answers.values() for each in found)
    tally.count("acts", len(acts) + len(given))
    if sorted(acts) != sorted(due):
        tally.fail(0, f"acts: {set(acts) ^ set(due)}, {len(acts)} for {len(due)}", "acts not once")
    if given != sorted(askers.answers.items()):
        tally.fail(0, f"answers: {set(given) ^ set(askers.answers.items())}", "acts not once")


async def _hold_up(tally: Tally, case: int, kind: str, gateway: RunningGateway, key: str) -> None:
    """Stop the ledger's process, or keep its file locked, or kill it, and ask: nobody may be served."""
    tally.count("outages")
    tally.count(f"ledger {kind}")
    lock = apsw.Connection(str(gateway.home / FILE))
    wires = [await Wire.open(gateway.port) for _ in range(4 * len(GOVERNED))]
    if kind == "failing":
        lock.execute("BEGIN IMMEDIATE")
    else:
        gateway.signal(signal.SIGSTOP if kind == "stopped" else signal.SIGKILL)
    try:
        replies = await asyncio.gather(
            *(
                wire.ask(_governed(GOVERNED[number % len(GOVERNED)], key, stream=number % 3 == 0), 10.0)
                for number, wire in enumerate(wires)
            )
        )
    finally:
        lock.close()
        if kind == "stopped":
            os.kill(gateway.process.pid, signal.SIGCONT)
        for wire in wires:
            wire.cut()
    for reply in replies:
        tally.count("asked in an outage")
        tally.count("unreachable", reply is None)
        tally.count("503 in an outage", reply is not None and reply.status == 503)
        if reply is not None and reply.status != 503:
            what = "served without a record" if reply.status < 400 else "not refused"
            tally.fail(case, f"ledger {kind}: {reply.status} {reply.headers}", what)
        elif reply is None and kind != "killed":
            tally.fail(case, f"ledger {kind}: no reply", "not refused")


def _governed(model: str, key: str, *, stream: bool) -> bytes:
    messages = [{"role": "user", "content": "where is my card"}]
    return post({"model": model, "stream": stream, "messages": messages}, f"authorization: Bearer {key}")


PROMISE = Promise(
    id="A5",
    says="One record per decision, no exceptions",
    asked="100,000 mixed requests (served, refused, failed, aborted, kept, shadowed, admin, wrong keys): clients' "
    "marks and records match 1:1; the ledger stopped, failing or killed: governed routes answer 503, none is served",
    unit="requests, two thousand to a home, each home with an outage of its ledger",
    full=100_000,
    sample=200,
    slow=6_300,
    control=150,
    chunk=BATCH,
    run=run,
    judge=judge,
    seen=seen,
)
