"""The choice about one request, made before a byte of the reply leaves, and the shape of all that makes choices.

Choosing is apart from replying, so that the gateway can write the decision down between the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from insource.backends.contract import Backend
from insource.types import Answer, Decision, Outcome, Request


@dataclass(frozen=True, slots=True)
class Toss:
    """How the audit coin fell for one request, and the rate at which it was tossed."""

    audited: bool = False
    rate: float = 0.0


NOT_TOSSED = Toss()


@dataclass(frozen=True, slots=True)
class Choice:
    """A decision, and what the tier that was asked last said wherever it spoke, accepted or not.

    For a request that was kept it is the best that any tier said: what a person who reviews it may start from. `picked`
    says that a label is to be bought for it.
    """

    decision: Decision
    scored: Answer | None = None
    picked: bool = False

    @property
    def answer(self) -> Answer | None:
        """The tier's answer with its decision where it was accepted; None where the request goes up or is kept."""
        return self.scored if self.decision.outcome is Outcome.ACCEPTED else None


@runtime_checkable
class Chooser(Backend, Protocol):
    """A backend that chooses first and replies afterwards; `answer` is the two in one."""

    async def decide(self, request: Request, toss: Toss = NOT_TOSSED) -> Choice:
        """Choose between a tier's answer, the upstream and keeping; send nothing out of the house."""
        ...

    async def decide_many(self, requests: Sequence[Request], tosses: Sequence[Toss] | None = None) -> list[Choice]:
        """Choose for each request, as one at a time would."""
        ...

    async def reply(self, request: Request, choice: Choice) -> Answer:
        """Return the accepted answer, or the upstream's.

        Raises KeptLocal where the request was kept, UpstreamError where the upstream fails; each with its decision.
        """
        ...
