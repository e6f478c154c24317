"""Every way through a gateway, multiplied: endpoint, plain or streamed, what becomes of a request, what marks it.

It holds tables and knows no gateway: tasks are named here, and built by whoever uses them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from random import Random
from typing import Any

from insource.types import Stage

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "gpt-4o", "messages": [{"role": "user", "content": "TEXT"}]},
    "/v1/completions": {"model": "gpt-4o", "prompt": "TEXT"},
    "/v1/responses": {"model": "gpt-4o", "input": "TEXT"},
    "/v1/embeddings": {"model": "gpt-4o", "input": "TEXT"},
    "/v1/moderations": {"model": "gpt-4o", "input": "TEXT"},
    "/v1/messages": {"model": "gpt-4o", "max_tokens": 50, "messages": [{"role": "user", "content": "TEXT"}]},
}
UNREAD = (
    ("GET", "/v1/models"), ("POST", "/v1/audio/transcriptions"), ("POST", "/v1/files"), ("GET", "/v1/files/f"),
    ("DELETE", "/v1/files/f"), ("POST", "/v1/batches"), ("POST", "/v1/messages/batches"), ("GET", "/v1/responses/r"),
    ("POST", "/v1/messages/count_tokens"), ("PUT", "/v1/chat/completions"), ("PATCH", "/v1/x"), ("OPTIONS", "/v1/x"),
)  # fmt: skip
OWN = {
    *(("GET", path) for path in ("/healthz", "/readyz", "/metrics", "/v1/insource/reviews/{id}")),
    *(("GET", path) for path in ("/v1/insource/tasks", "/v1/insource/tasks/{name}")),
    ("GET", "/v1/insource/keys"), ("POST", "/v1/insource/keys"), ("DELETE", "/v1/insource/keys/{id}"),
    ("POST", "/v1/insource/feedback"), ("POST", "/v1/feedback"), ("*", "/v1/..."),
}  # fmt: skip
"""What reaches no upstream, and the pattern that UNREAD stands for."""


@dataclass(frozen=True, slots=True)
class Way:
    """What becomes of a request: its task (None: none), what its text begins with, and the reason on its reply."""

    task: str | None
    text: str
    reason: str


WAYS = {
    "no task": Way(None, "unsure", "no_task"),
    "no specialist": Way("fresh", "sure", "no_specialist"),
    "no threshold": Way("open", "sure", "no_threshold"),
    "escalated": Way("triage", "unsure", "below_threshold"),
    "specialist fails": Way("triage", "crash", "specialist_failed"),
    "specialist slow": Way("triage", "slow", "specialist_slow"),
    "unsupported field": Way("triage", "sure unheard of", "unsupported_field"),
    "artifact damaged": Way("damaged", "sure", "artifact_damaged"),
    "audit of an accepted": Way("audited", "sure", "above_threshold"),
    "audit of an escalated": Way("audited", "unsure", "below_threshold"),
    "shadow beside an accepted": Way("shadowed", "sure", "above_threshold"),
    "shadow beside an escalated": Way("shadowed", "unsure", "below_threshold"),
    "canary accepts": Way("canaried", "sure", "above_threshold"),
    "canary escalates": Way("canaried", "unsure", "below_threshold"),
    "label bought": Way("bought", "sure", "above_threshold"),
    "tier": Way("tiered", "unsure", "below_threshold"),
    "fallback": Way("failing", "unsure", "below_threshold"),
    "weights": Way("weighted", "unsure", "below_threshold"),
    "retry": Way("retried", "unsure", "below_threshold"),
    "best answer": Way("best", "unsure", "below_threshold"),
    "review": Way("review", "unsure", "below_threshold"),
    "vault": Way("vaulted", "unsure", "below_threshold"),
    "task by model": Way("triage", "unsure by model", "below_threshold"),
}
TRIALS = {"shadowed": (Stage.SHADOW, 0.0), "canaried": (Stage.CANARY, 1.0)}
"""The tasks with a second version on trial: its stage, and its share of the requests."""

TASKS = {
    "triage": "deadline_ms = 20", "fresh": "", "open": "", "damaged": "", "audited": "audit_rate = 0.5",
    "tiered": 'tiers = ["house"]\naudit_rate = 0.5', "failing": 'upstream = ["down", "main"]',
    "weighted": "upstream = { down = 1, main = 1, spare = 0 }", "retried": 'upstream = ["down", "spare"]',
    "shadowed": "audit_rate = 0.5", "canaried": "audit_rate = 0.5",
    "bought": 'content = "full"\nlabels_per_day = 10000000',
    "best": 'when_kept = "best"', "review": 'when_kept = "review"', "vaulted": 'upstream = ["main", "vault"]',
}  # fmt: skip
TOLD: dict[str, tuple[str, ...]] = {
    "header": ("restricted",), "header in capitals": (" RESTRICTED ",), "header unreadable": ("top secret",),
    "header empty": ("",), "header twice": ("public", "restricted"), "task": (), "task against header": ("public",),
    "token": (), "failing check": (), "odd check": (), "policy": (),
}  # fmt: skip
"""How a request is known to be restricted, with the values of its header where that says so."""

HOUSES = {"token": "check", "failing check": "check", "odd check": "check", "policy": "policy"}


@dataclass(frozen=True, slots=True)
class Cell:
    """One case: where and how it is asked, what becomes of it, what marks it, and whether first guards are blind."""

    method: str
    path: str
    stream: bool
    way: str
    marked: str
    blind: bool

    @property
    def house(self) -> tuple[str, bool]:
        """Which gateway it is asked of."""
        return HOUSES.get(self.marked, "plain"), self.blind


def _matrix() -> list[Cell]:
    read = [Cell("POST", *rest) for rest in product(BODIES, (False, True), WAYS, TOLD, (False, True))]
    marks = [marked for marked in TOLD if not marked.startswith("task")]  # what nobody reads belongs to no task
    read += [Cell(*where, False, "no task", *rest) for where, *rest in product(UNREAD, marks, (False, True))]
    cells = [cell for cell in read if cell.way != "no task" or not cell.marked.startswith("task")]
    Random(5).shuffle(cells)
    return cells


MATRIX = _matrix()
