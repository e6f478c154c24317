"""The fields of each dialect that a closed-set specialist can honour, with any value or with one that asks for nothing.

A table and nothing else; `honour` applies it. What is not in it sends the request up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Within = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Honoured:
    """One dialect's fields: those with any value, and those with the values that a test lets through.

    `limits` are those that bound the reply's tokens, with the bound where they are not set; `stops` hold stop
    sequences; `forms` find the format asked for in a field's value.
    """

    always: frozenset[str] = frozenset()
    within: Mapping[str, Within] = field(default_factory=dict)
    limits: Mapping[str, int | None] = field(default_factory=dict)
    stops: tuple[str, ...] = ()
    forms: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)


NOTHING = Honoured()


def _is(*allowed: Any) -> Within:
    """Return a test for one of these values, of the same type (True is no 1)."""
    return lambda value: any(type(value) is type(one) and value == one for one in allowed)


def _only(**inner: Within | None) -> Within:
    """Return a test for an object with no other keys than these; None lets any value of a key through."""

    def within(value: Any) -> bool:
        if not isinstance(value, dict):
            return False
        for name, item in value.items():
            if item is None:
                continue
            test = inner.get(name, _never)
            if test is not None and not test(item):
                return False
        return True

    return within


def _never(value: Any) -> bool:
    return False


def _format_of(value: Any) -> Any:
    return value.get("format") if isinstance(value, dict) else value


_CHAT = Honoured(
    always=frozenset(
        """model messages temperature top_p seed max_tokens max_completion_tokens stream stream_options user metadata
        store stop presence_penalty frequency_penalty response_format service_tier reasoning_effort verbosity
        safety_identifier prompt_cache_key prompt_cache_options prompt_cache_retention parallel_tool_calls""".split()
    ),
    within={
        "n": _is(1),
        "tools": _is([]),
        "functions": _is([]),
        "tool_choice": _is("none", "auto"),
        "function_call": _is("none", "auto"),
        "logprobs": _is(False),
        "top_logprobs": _is(0),
        "logit_bias": _is({}),
        "modalities": _is(["text"]),
    },
    limits={"max_completion_tokens": None, "max_tokens": None},
    stops=("stop",),
    forms={"response_format": lambda value: value},
)

_COMPLETIONS = Honoured(
    always=frozenset(
        """model temperature top_p seed max_tokens stream stream_options user stop presence_penalty
        frequency_penalty""".split()
    ),
    within={"n": _is(1), "best_of": _is(1), "echo": _is(False), "suffix": _is(""), "logit_bias": _is({})},
    limits={"max_tokens": 16},  # OpenAI's documented default of this endpoint
    stops=("stop",),
)

_RESPONSES = Honoured(
    always=frozenset(
        """model temperature top_p max_output_tokens max_tool_calls stream stream_options user metadata
        safety_identifier service_tier prompt_cache_key prompt_cache_options prompt_cache_retention
        parallel_tool_calls truncation""".split()
    ),
    within={
        "instructions": lambda value: isinstance(value, str),
        "tools": _is([]),
        "tool_choice": _is("none", "auto"),
        "include": _is([]),
        "store": _is(False),  # what is stored can be fetched again and followed up by its id; nothing is stored here
        "background": _is(False),
        "top_logprobs": _is(0),
        "context_management": _is([]),
        "reasoning": _only(effort=None),
        "text": _only(format=None, verbosity=None),
    },
    limits={"max_output_tokens": None},
    forms={"text": _format_of},
)

_MESSAGES = Honoured(
    always=frozenset(
        """model max_tokens metadata temperature top_p top_k stop_sequences stream service_tier speed
        cache_control""".split()
    ),
    within={
        "tools": _is([]),
        "mcp_servers": _is([]),
        "tool_choice": _only(type=_is("none", "auto"), disable_parallel_tool_use=None),
        "thinking": _only(type=_is("disabled")),
        "output_config": _only(effort=None, format=None),
    },
    limits={"max_tokens": None},
    stops=("stop_sequences",),
    forms={"output_config": _format_of},
)

HONOURED: Mapping[str, Honoured] = {
    "chat": _CHAT,
    "completions": _COMPLETIONS,
    "responses": _RESPONSES,
    "messages": _MESSAGES,
    "moderations": Honoured(always=frozenset({"model"})),
}
"""By dialect. `store` unset in a response is taken as no wish to fetch it again, though the API would store it."""

NAMED = frozenset(
    """messages prompt input system audio prediction web_search_options conversation
    previous_response_id container inference_geo betas encoding_format dimensions""".split()
).union(*({*honoured.always, *honoured.within} for honoured in HONOURED.values()))
"""The fields that may be told by name. Any other name is the client's own words, and those are kept nowhere."""
