"""What every backend must do, a user's own included: the suite that ours pass too.

Run `await check_backend(factory, requests)` in a test; it raises AssertionError naming the first thing amiss. It knows
no particular backend.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence

from insource.backends.contract import Backend, BackendInfo
from insource.backends.reply import read_reply
from insource.errors import InsourceError
from insource.types import Answer, Request

_Said = tuple[str, str | None, str | None, float | None]


async def check_backend(factory: Callable[[], Backend], requests: Sequence[Request]) -> None:
    """Check a backend made by `factory` on at least two requests that it can answer.

    Checked: the shape; opening and closing; `answer` and `answer_many` say the same, in order, alone and at once; a
    cancelled request leaves it whole; once closed it is not ready and raises an InsourceError.
    """
    _require(len(requests) >= 2, f"{len(requests)} requests were given; at least two are needed to see their order")
    backend = factory()
    _require(isinstance(backend, Backend), f"{type(backend).__name__} lacks a part of the Backend protocol")
    _require(isinstance(backend.info, BackendInfo) and bool(backend.info.name), "info must have a name, open or not")
    async with backend as opened:
        _require(opened is backend, "entering must give the backend itself")
        _require((await backend.health()).ready, "an open backend must be ready, or say why not in a test of its own")
        alone = [await _said(await backend.answer(request)) for request in requests]
        await _check_many(backend, requests, alone)
        await _check_at_once(backend, requests, alone)
        await _check_cancelled(backend, requests[0], alone[0])
    await _check_closed(backend, requests[0])


async def _check_many(backend: Backend, requests: Sequence[Request], alone: Sequence[_Said]) -> None:
    _require(await backend.answer_many([]) == [], "no requests must give no answers")
    for order in (1, -1):
        answers = [await _said(answer) for answer in await backend.answer_many(requests[::order])]
        _require(
            len(answers) == len(requests) and all(map(_same, answers, alone[::order])),
            "answer_many must give what answer gives, in the order of the requests",
        )


async def _check_at_once(backend: Backend, requests: Sequence[Request], alone: Sequence[_Said]) -> None:
    async def one(request: Request) -> _Said:
        return await _said(await backend.answer(request))

    answers = await asyncio.gather(*(one(request) for request in requests for _ in range(4)))
    expected = [said for said in alone for _ in range(4)]
    _require(all(map(_same, answers, expected)), "requests answered at once must not mix")


async def _check_cancelled(backend: Backend, request: Request, expected: _Said) -> None:
    job = asyncio.ensure_future(backend.answer(request))
    await asyncio.sleep(0)
    job.cancel()
    (result,) = await asyncio.gather(job, return_exceptions=True)
    _require(
        isinstance(result, asyncio.CancelledError | Answer), f"a cancelled request ended in {type(result).__name__}"
    )
    if isinstance(result, Answer):
        await read_reply(result)
    _require(_same(await _said(await backend.answer(request)), expected), "a cancelled request must leave it whole")


async def _check_closed(backend: Backend, request: Request) -> None:
    _require(not (await backend.health()).ready, "a closed backend must not be ready")
    try:
        await backend.answer(request)
    except InsourceError:
        return
    except Exception as error:
        raise AssertionError(f"a closed backend must raise an InsourceError, not {type(error).__name__}") from error
    raise AssertionError("a closed backend must raise an InsourceError, not answer")


async def _said(answer: Answer) -> _Said:
    _require(isinstance(answer, Answer), f"an Answer was expected, not {type(answer).__name__}")
    _require(bool(answer.served_by), "an answer must say what served it")
    content = (await read_reply(answer)).content if answer.relay is not None else answer.content
    _require(content is not None, "an answer must have content, or a relay with content")
    return answer.served_by, content, answer.label, answer.score


def _same(one: _Said, other: _Said) -> bool:
    """Compare exactly, but for the last digits of a score, which a batch may round differently."""
    if one[3] is None or other[3] is None:
        return one == other
    return one[:3] == other[:3] and math.isclose(one[3], other[3], rel_tol=0, abs_tol=1e-6)


def _require(held: bool, message: str) -> None:
    if not held:
        raise AssertionError(message)
