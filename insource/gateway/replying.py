"""The reply to a decided request: accepted answers sent, kept ones refused or queued, escalated ones relayed.

Whatever happens to the sending, the request is settled exactly once. It takes no decision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from insource.backends.reply import Reply
from insource.errors import InsourceError, KeptLocal
from insource.gateway.recorder import Exchange
from insource.gateway.relaying import Relaying
from insource.gateway.sending import Client, send_answer, send_error, told
from insource.gateway.stack import Stack
from insource.inputs import text_of
from insource.types import Outcome, WhenKept

if TYPE_CHECKING:
    from insource.gateway.gateway import Gateway


async def send_chosen(gateway: Gateway, stack: Stack, exchange: Exchange, client: Client) -> None:
    """Send the reply to a request whose decision is recorded, and settle it."""
    if exchange.choice.answer is not None:
        answer = await stack.chooser.reply(exchange.request, exchange.choice)
        safe = exchange.task.moderation_safe if exchange.task is not None else ()
        await send_answer(client.send, exchange.request, exchange.choice.decision, answer, safe)
        reply = Reply(200, None, answer.usage) if answer.usage is not None else None
        gateway.recorder.settled(exchange, 200, answer.served_by, reply=reply, seconds=sum(answer.seconds.values()))
        return
    if exchange.choice.decision.outcome is Outcome.KEPT:
        await _keep(gateway, stack, exchange, client)
        return
    await Relaying(gateway, stack, exchange, client).run()


async def _keep(gateway: Gateway, stack: Stack, exchange: Exchange, client: Client) -> None:
    """Refuse what may not leave, having queued it for a person where its task says so."""
    request, task = exchange.request, exchange.task
    status = KeptLocal.status
    try:
        if task is not None and task.when_kept is WhenKept.REVIEW:
            scored = exchange.choice.scored
            text = text_of(request, task.messages) or request.body.decode("utf-8", "replace")
            said = (scored.content, scored.score) if scored else (None, None)
            await gateway.queue_review(request, task.name, text, *said)
        await stack.chooser.reply(request, exchange.choice)
    except InsourceError as error:
        status = error.status if isinstance(error, KeptLocal) else 503
        await send_error(client.send, error, told(exchange.choice.decision, "none"), status, request.dialect)
    finally:
        gateway.recorder.settled(exchange, status, "none")
