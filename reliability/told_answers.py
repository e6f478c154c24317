"""Requests whose text tells everybody what to say: the reference, what the incumbent and what the candidate answers.

Whoever is scripted by them (the upstream, the specialists of `replayed_gateway`) needs nothing but the text.
"""

from __future__ import annotations

import json
from asyncio import StreamReader, StreamWriter

from reliability.plain_upstream import PlainUpstream

ANSWERS = ("yes", "no")
ROLES = ("reference", "incumbent", "candidate")


def telling(number: int, *, incumbent_wrong: bool, candidate_wrong: bool) -> str:
    """Return the text of a request; its reference is by turns yes and no."""
    right = number % 2
    said = (right, right ^ incumbent_wrong, right ^ candidate_wrong)
    return " ".join([str(number), *(f"{role}:{ANSWERS[each]}" for role, each in zip(ROLES, said, strict=True))])


def told(text: str, role: str) -> str:
    """Return what one of the roles is told to say."""
    return text.partition(f" {role}:")[2].partition(" ")[0]


class ToldUpstream(PlainUpstream):
    """An upstream that answers every request at once with the reference that its text tells."""

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        body = json.loads(await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0])))
        self.asked += 1
        message = {"role": "assistant", "content": told(body["messages"][-1]["content"], "reference")}
        reply = json.dumps({
            "id": "x", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }).encode()  # fmt: skip
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(reply)
        writer.write(head + reply)
        await writer.drain()
