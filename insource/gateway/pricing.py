"""What a request may cost at most, before it is sent: tokens from its bytes and its own bound, money from the prices.

It knows the wire's fields and prices, and no budget's state. Where a bound is not known for sure there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from insource.config import UpstreamConfig
from insource.errors import CostUnknown
from insource.gateway.budgets import MONEY, TOKENS, Claim
from insource.gateway.money import MILLION
from insource.gateway.wire.coding import read_object
from insource.types import Key, Request, Settlement

TOOLS_TOKENS = 1_024
"""What an upstream may add to a prompt of its own where tools are named."""
_FREE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
_BOUNDS = {
    "chat": ("max_tokens", "max_completion_tokens"),
    "completions": ("max_tokens",),
    "messages": ("max_tokens",),
    "responses": ("max_output_tokens",),
}
"""The fields that bound the reply, by dialect; what upstreams make of another dialect's, nobody knows."""
_ALL_BOUNDS = frozenset(name for names in _BOUNDS.values() for name in names)
_NO_OUTPUT = frozenset({"embeddings", "moderations"})
_TEXTS = ("system", "input", "instructions", "prompt", "suffix")
_PRICED = frozenset(
    """model stream stream_options temperature top_p top_k min_p n best_of max_tokens max_completion_tokens
    max_output_tokens stop stop_sequences presence_penalty frequency_penalty logit_bias logprobs top_logprobs seed user
    response_format tools tool_choice parallel_tool_calls functions function_call metadata store reasoning_effort
    verbosity safety_identifier prompt_cache_key thinking system input instructions text reasoning truncation include
    prompt suffix echo encoding_format dimensions""".split()
)
"""The fields whose part in the cost is known: within the bytes of the body, or within the bound of the reply."""


def claims(request: Request, key: Key, upstreams: Sequence[UpstreamConfig]) -> list[Claim]:
    """Return what the request may take at most of the budgets of its key, whichever of the upstreams answers.

    Raises CostUnknown where that has no bound, or money is counted and a price is unknown or in another currency.
    """
    money, tokens = key.limits.money, key.limits.tokens
    if (money is None and tokens is None) or request.method in _FREE_METHODS:
        return []
    reply = max((_reply_tokens(request, upstream) for upstream in upstreams), default=0)
    prompt = _prompt_tokens(request)
    found = []
    if money is not None:
        most = max((_cost(prompt, reply, upstream, key.limits.currency) for upstream in upstreams), default=Decimal(0))
        found.append(Claim(MONEY, key.limits.currency, money[0], money[1], most))
    if tokens is not None:
        found.append(Claim(TOKENS, "tokens", Decimal(tokens[0]), tokens[1], Decimal(prompt + reply)))
    return found


def spent(settlement: Settlement, *, replied: bool, whole: bool, attempts: int | None) -> Mapping[str, Decimal]:
    """Return what a request took, by kind; nothing of a kind that is not known.

    `replied` says that the upstream sent a reply of its own: one that says that it failed takes nothing, unless it
    came after other `attempts`, which may have been billed. The tokens that a reply told of are not all that it took
    unless it was `whole`.
    """
    usage, found = settlement.usage, {}
    if usage is not None:
        if whole:
            found[TOKENS] = Decimal(usage.prompt_tokens + usage.completion_tokens)
            if settlement.cost is not None:
                found[MONEY] = settlement.cost
        return found
    nothing_sent = settlement.detail in ("upstream_resting", "kept_local")
    failed = replied and attempts == 1 and settlement.status >= 400 and settlement.detail is None
    if nothing_sent or failed:
        return dict.fromkeys((MONEY, TOKENS), Decimal(0))
    return found


def _prompt_tokens(request: Request) -> int:
    """Return at least as many tokens as the prompt can have: no token is shorter than a byte."""
    if request.dialect == "other" or not _PRICED.issuperset(request.fields):
        odd = sorted(request.fields.keys() - _PRICED)
        named = f"its field {odd[0][:40]!r}" if odd else "a body that is passed on unread"
        raise _unknown(f"{named} may cost what nobody here can tell; one without it was expected.")
    fields, plain = request.fields, bool(request.messages) or request.dialect not in ("chat", "messages")
    if request.messages:
        plain &= all(message.text is not None or message.content is None for message in request.messages)
        plain &= not _speaks(request.body)
    for name in _TEXTS:
        if (value := fields.get(name)) is not None:
            plain &= _plain(value)
    if not plain:
        raise _unknown("a part of it is no text (an image, a sound, a tool's call); text alone was expected.")
    named_tools = fields.get("tools") or fields.get("functions") or ()
    if not isinstance(named_tools, list | tuple) or any(_hosted(tool) for tool in named_tools):
        raise _unknown("it names a tool that the upstream runs; tools of the caller's own were expected.")
    return len(request.body) + (TOOLS_TOKENS if named_tools else 0)


def _speaks(body: bytes) -> bool:
    """Whether a message names a sound of an earlier reply, all of which the upstream reads for an id's few bytes."""
    messages = read_object(body).get("messages")
    return isinstance(messages, list) and any(
        isinstance(message, dict) and message.get("audio") is not None for message in messages
    )


def _plain(value: object) -> bool:
    """Whether a value is text, or lists of texts and of tokens' numbers: all of it stands in the body."""
    if isinstance(value, list):
        return all(map(_plain, value))
    return isinstance(value, str) or type(value) is int


def _hosted(tool: object) -> bool:
    """Whether a tool may be one that the upstream runs itself, and charges for."""
    return not isinstance(tool, dict) or tool.get("type", "function") not in ("function", "custom")


def _reply_tokens(request: Request, upstream: UpstreamConfig) -> int:
    fields = request.fields
    if request.dialect in _NO_OUTPUT:
        return 0
    names, most, bounded = _BOUNDS.get(request.dialect, ()), 0, False
    for name in _ALL_BOUNDS:
        if (given := fields.get(name)) is not None:
            if type(given) is not int or given < 0:
                raise _unknown("its bound of the reply's tokens is no whole number; one was expected.")
            most, bounded = max(most, given), bounded or name in names
    bound = most if bounded else upstream.max_reply_tokens
    if bound is None:
        raise _unknown(f"it sets no bound of the reply's tokens ({' or '.join(names) or 'there is none'}), and "
                       f"upstreams.{upstream.name}.max_reply_tokens is not set; one was expected.")  # fmt: skip
    times = 1
    for name in ("n", "best_of"):
        if (time := fields.get(name)) is not None:
            if type(time) is not int or time < 1:
                raise _unknown("its n is no whole number from 1 on; one was expected.")
            times = max(times, time)
    prompts = fields.get("prompt")
    several = len(prompts) if request.dialect == "completions" and isinstance(prompts, list) else 1
    return bound * times * max(1, several)


def _cost(prompt: int, reply: int, upstream: UpstreamConfig, currency: str) -> Decimal:
    if upstream.price_in is None or upstream.price_out is None:
        raise _unknown(f"the prices of upstream {upstream.name!r} are not set; price_in and price_out were expected.")
    if upstream.currency != currency:
        raise _unknown(f"upstream {upstream.name!r} has its prices in {upstream.currency}; {currency} was expected.")
    return (prompt * upstream.price_in + reply * upstream.price_out) / MILLION


def _unknown(why: str) -> CostUnknown:
    return CostUnknown(f"The most that the request may cost is not known, and its key has a budget: {why}")
