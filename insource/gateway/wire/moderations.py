"""`/v1/moderations`: OpenAI's moderations, whose categories are a task's answers.

An answer that the task counts as safe is no category. Several texts at once are left to the upstream.
"""

from __future__ import annotations

from typing import Any

from insource.gateway.wire.coding import encode
from insource.gateway.wire.conversation import one_text
from insource.types import Answer, Message, Request


def conversation(fields: dict[str, Any]) -> tuple[Message, ...]:
    """Take an `input` of one text, or of parts that are judged together, out of the fields."""
    given = fields.get("input")
    content: str | tuple[dict[str, Any], ...] | None = one_text(given)
    if content is None and isinstance(given, list) and given and all(isinstance(part, dict) for part in given):
        content = tuple(given)
    if content is None:
        return ()
    del fields["input"]
    return (Message("user", content),)


def render(request: Request, answer: Answer, created: int, safe: tuple[str, ...]) -> list[bytes]:
    """Return one moderation; `flagged` where the answer is none of `safe`.

    Scores are the specialist's probabilities. Where what answered gave none (a tier in the house), the answer is the
    only category, with its score, or 1 where it has none either.
    """
    label = answer.label if answer.label is not None else answer.content or ""
    scores = answer.probabilities
    if scores is None:
        scores = {label: 1.0 if answer.score is None else answer.score}
    held = {name: float(score) for name, score in scores.items() if name not in safe}
    result = {
        "flagged": label not in safe,
        "categories": {name: name == label for name in held},
        "category_scores": held,
        "category_applied_input_types": {name: ["text"] for name in held},
    }
    return [encode({"id": f"modr-{request.id}", "model": request.model or answer.served_by, "results": [result]})]
