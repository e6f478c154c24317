"""`POST /v1/insource/feedback`: what a person says was the right answer to a request that was decided here.

It reads and checks a body and knows no HTTP; what the answers are used for is nobody's business here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from insource.errors import RequestError, UnknownRequest
from insource.gateway.wire.coding import read_object
from insource.store.columns import Feedback, Source
from insource.types import Key

if TYPE_CHECKING:
    from insource.gateway.gateway import Gateway

LONGEST = {"request_id": 200, "answer": 20_000, "who": 200}
"""The fields of a body, and how many characters each may have."""


async def take_feedback(gateway: Gateway, body: bytes, key: Key | None = None) -> dict[str, object]:
    """Record an answer, and return what is on record once it is durable.

    Raises RequestError for a body that is none or an answer outside the task's closed set, UnknownRequest for an id
    without a decision, or whose task the key does not allow, StoreError.
    """
    told = _read(body)
    request_id = told["request_id"]
    decision = await gateway.decision(request_id)
    if decision is None or (key is not None and not key.may_ask(decision.task)):
        raise UnknownRequest(
            f"No request {request_id[:80]!r} is on record here; the x-insource-request-id of a reply was expected. "
            "Send the id of the request that the answer is about."
        )
    if decision.task is None:
        raise RequestError(
            f"Request {request_id!r} belongs to no task, so nothing could learn from its answer; one of a task was "
            "expected. Send answers to requests of tasks only."
        )
    stack = gateway.generation.serving.snapshot.stacks.get(decision.task)
    label = stack.label(told["answer"]) if stack is not None else told["answer"]
    if label is None:
        raise RequestError(
            f"{told['answer'][:80]!r} is no answer of task {decision.task!r}; one of its closed set was expected. "
            "Send an answer as the task's replies have it."
        )
    who = told.get("who", "api")
    await gateway.recorder.feedback(Feedback(request_id, gateway.clock(), decision.task, label, who, Source.FEEDBACK))
    return {"request_id": request_id, "task": decision.task, "answer": label, "who": who}


def _read(body: bytes) -> Mapping[str, str]:
    told = read_object(body)
    for name, value in told.items():
        if name not in LONGEST:
            raise RequestError(f"The body has a field {str(name)[:80]!r}; only {', '.join(LONGEST)} were expected.")
        if not isinstance(value, str) or not value.strip() or len(value) > LONGEST[name]:
            raise RequestError(
                f"{name} is no text of 1 to {LONGEST[name]:,} characters; such a text was expected. Correct the field."
            )
    for name in ("request_id", "answer"):
        if name not in told:
            raise RequestError(f"The body has no {name}; it was expected. Add it.")
    return told
