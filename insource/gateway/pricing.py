"""What a request may cost at most, before it is sent: tokens from its bytes and its own bound, money from the prices.

It knows the wire's fields and prices, and no budget's state. Where a bound is not known for sure there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from insource.config import UpstreamConfig
from insource.errors import CostUnknown
from insource.gateway.limits import MONEY, TOKENS, Claim
from insource.gateway.money import MILLION
from insource.types import Key, Request, Settlement

TOOLS_TOKENS = 1_024
"""What an upstream may add to a prompt of its own where tools are named."""
_FREE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
_BOUNDS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
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


def spent(settlement: Settlement, *, replied: bool) -> Mapping[str, Decimal]:
    """Return what a request took, by kind; nothing of a kind that is not known.

    `replied` says that the upstream sent a reply of its own: one that says that it failed takes nothing.
    """
    usage, found = settlement.usage, {}
    if usage is not None:
        found[TOKENS] = Decimal(usage.prompt_tokens + usage.completion_tokens)
        if settlement.cost is not None:
            found[MONEY] = settlement.cost
        return found
    nothing_sent = settlement.detail in ("upstream_resting", "kept_local")
    if nothing_sent or (replied and settlement.status >= 400 and settlement.detail is None):
        return dict.fromkeys((MONEY, TOKENS), Decimal(0))
    return found


def _prompt_tokens(request: Request) -> int:
    """Return at least as many tokens as the prompt can have: no token is shorter than a byte."""
    odd = sorted(request.fields.keys() - _PRICED)
    if request.dialect == "other" or odd:
        named = f"its field {odd[0][:40]!r}" if odd else "a body that is passed on unread"
        raise _unknown(f"{named} may cost what nobody here can tell; one without it was expected.")
    left = [request.fields[name] for name in _TEXTS if request.fields.get(name) is not None]
    unread = request.dialect in ("chat", "messages") and not request.messages
    odd_part = any(message.text is None and message.content is not None for message in request.messages)
    sound = any(message.content is None for message in request.messages) and b'"audio"' in request.body
    if unread or odd_part or sound or not all(map(_plain, left)):
        raise _unknown("a part of it is no text (an image, a sound, a tool's call); text alone was expected.")
    named_tools = request.fields.get("tools") or request.fields.get("functions") or ()
    if not isinstance(named_tools, list | tuple) or any(_hosted(tool) for tool in named_tools):
        raise _unknown("it names a tool that the upstream runs; tools of the caller's own were expected.")
    return len(request.body) + (TOOLS_TOKENS if named_tools else 0)


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
    given = [fields[name] for name in _BOUNDS if fields.get(name) is not None]
    if not all(type(bound) is int and bound >= 0 for bound in given):
        raise _unknown("its bound of the reply's tokens is no whole number; one was expected.")
    bound = max(given) if given else upstream.max_reply_tokens
    if bound is None:
        raise _unknown("it sets no bound of the reply's tokens, such as max_tokens, and upstreams."
                       f"{upstream.name}.max_reply_tokens is not set; one of them was expected.")  # fmt: skip
    times = [fields[name] for name in ("n", "best_of") if fields.get(name) is not None]
    if not all(type(time) is int and time >= 1 for time in times):
        raise _unknown("its n is no whole number from 1 on; one was expected.")
    prompts = fields.get("prompt")
    several = len(prompts) if request.dialect == "completions" and isinstance(prompts, list) else 1
    return bound * max(times, default=1) * max(1, several)


def _cost(prompt: int, reply: int, upstream: UpstreamConfig, currency: str) -> Decimal:
    if upstream.price_in is None or upstream.price_out is None:
        raise _unknown(f"the prices of upstream {upstream.name!r} are not set; price_in and price_out were expected.")
    if upstream.currency != currency:
        raise _unknown(f"upstream {upstream.name!r} has its prices in {upstream.currency}; {currency} was expected.")
    return (prompt * upstream.price_in + reply * upstream.price_out) / MILLION


def _unknown(why: str) -> CostUnknown:
    return CostUnknown(f"The most that the request may cost is not known, and its key has a budget: {why}")
