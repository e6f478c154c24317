"""The canary: a fixed share of a task's requests is decided by the candidate, the others by the incumbent.

Who is among them follows from the request alone, in every worker alike. It knows neither stages nor evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from hashlib import blake2b
from types import TracebackType
from typing import Self

from insource.backends.contract import BackendInfo, Health
from insource.cascade.choice import NOT_TOSSED, Choice, Chooser, Toss
from insource.inputs import text_of
from insource.types import Answer, Request

Key = Callable[[Request], str]
"""Says whose request it is; requests with one key are decided by one version."""


class Canary:
    """A chooser around two: the candidate decides the requests whose key falls below `share`, the incumbent all else.

    A key stays where it is for as long as the salt and the share do, and with a larger share it never goes back.
    """

    def __init__(self, incumbent: Chooser, candidate: Chooser, *, share: float, key: Key, salt: str) -> None:
        """Nest the two; ValueError for a share outside [0, 1]."""
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"share is {share!r}; a number of at least 0 and at most 1 was expected")
        self._incumbent = incumbent
        self._candidate = candidate
        self._share = share
        self._key = key
        self._salt = salt
        self._opened = AsyncExitStack()

    @property
    def info(self) -> BackendInfo:
        """The incumbent's."""
        return self._incumbent.info

    def chosen(self, request: Request) -> Chooser:
        """Return the one that decides a request."""
        return self._candidate if place(self._salt, self._key(request)) < self._share else self._incumbent

    async def decide(self, request: Request, toss: Toss = NOT_TOSSED) -> Choice:
        """Choose as the one does whose request it is."""
        return await self.chosen(request).decide(request, toss)

    async def decide_many(self, requests: Sequence[Request], tosses: Sequence[Toss] | None = None) -> list[Choice]:
        """Choose for each request, in two batches."""
        tosses = tosses if tosses is not None else [NOT_TOSSED] * len(requests)
        found: dict[int, Choice] = {}
        whose = [self.chosen(request) for request in requests]
        for chooser in (self._incumbent, self._candidate):
            numbers = [number for number, one in enumerate(whose) if one is chooser]
            some = await chooser.decide_many([requests[n] for n in numbers], [tosses[n] for n in numbers])
            found.update(zip(numbers, some, strict=True))
        return [found[number] for number in range(len(requests))]

    async def reply(self, request: Request, choice: Choice) -> Answer:
        """Reply as the one that decided."""
        return await self.chosen(request).reply(request, choice)

    async def answer(self, request: Request) -> Answer:
        """Choose, then reply."""
        return await self.chosen(request).answer(request)

    async def answer_many(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer in order."""
        choices = await self.decide_many(requests)
        return [await self.reply(request, choice) for request, choice in zip(requests, choices, strict=True)]

    async def health(self) -> Health:
        """The incumbent's: the candidate's failures are reasons to escalate."""
        return await self._incumbent.health()

    async def __aenter__(self) -> Self:
        """Open both."""
        async with AsyncExitStack() as opened:
            await opened.enter_async_context(self._incumbent)
            await opened.enter_async_context(self._candidate)
            self._opened = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close both."""
        await self._opened.__aexit__(kind, error, trace)


def place(salt: str, key: str) -> float:
    """Return where a key falls: uniform on [0, 1), the same again for the same salt and key."""
    digest = blake2b(f"{salt}\0{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def subject_key(messages: str) -> Key:
    """Return the key of a task that sees these messages: the request's subject, as far as it names one, else its text.

    Of a request that names no subject, it is `prompt_cache_key`; then the text that the specialist sees, and the
    request's id where there is none.
    """

    def key(request: Request) -> str:
        named = request.subject or request.fields.get("prompt_cache_key")
        if isinstance(named, str) and named:
            return f"subject:{named}"
        text = text_of(request, messages)
        return f"id:{request.id}" if text is None else f"text:{text}"

    return key
