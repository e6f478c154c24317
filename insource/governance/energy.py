"""Joules per answer: measured where the machine has a counter to read, otherwise modelled, with formula and range.

It knows seconds and tokens; not the ledger. A model of a provider is a model: its range spans two orders of magnitude.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from insource.governance.counter import PowerMeter, Watts, open_meter
from insource.types import Usage

Method = Literal["modelled", "measured"]

WATTS_PER_CORE = Watts(4.0, 2.0, 15.0)
"""CodeCarbon 3 takes 4 W per thread for a processor it does not know. Range: a many-core server at its thermal design
power shares 2 to 4 W per thread; a desktop core at full turbo draws up to 15 W."""


@dataclass(frozen=True, slots=True)
class PerToken:
    """Joules per token: the figure to use, and the range it lies in."""

    value: float
    low: float
    high: float


PER_PROMPT_TOKEN = PerToken(0.3, 0.01, 3.0)
"""2 FLOP per active parameter and token at 1.4e12 FLOP per joule (H100 at its peak): 8 B parameters at that peak, 100 B
at half of it, 400 B at a quarter and with cooling."""

PER_COMPLETION_TOKEN = PerToken(3.0, 0.1, 40.0)
"""EcoLogits' regression with its servers and PUE 1.2 gives 14 J for 132 B active of 440 B parameters, its first version
37 J for 100 B; full batches of 8 B on an H100 take under 0.1 J. At 3 J, 0.24 Wh (Google's median Gemini text prompt of
2025, length undisclosed) would be about 290 tokens."""

UPSTREAM_FORMULA = (
    f"prompt tokens x {PER_PROMPT_TOKEN.value:g} J ({PER_PROMPT_TOKEN.low:g} to {PER_PROMPT_TOKEN.high:g}) + "
    f"completion tokens x {PER_COMPLETION_TOKEN.value:g} J "
    f"({PER_COMPLETION_TOKEN.low:g} to {PER_COMPLETION_TOKEN.high:g}): "
    "a model of a large language model in a data centre, not a meter"
)
LOCAL_FORMULA = (
    f"seconds on one core x {WATTS_PER_CORE.value:g} W "
    f"({WATTS_PER_CORE.low:g} to {WATTS_PER_CORE.high:g} W): a model of a processor, not a meter"
)


@dataclass(frozen=True, slots=True)
class Joules:
    """An amount of energy with the range it lies in, how it was found, and by which formula.

    A difference is a claim: it is modelled as soon as one side is, and its range takes each side's worst end.
    """

    value: float
    low: float
    high: float
    method: Method
    formula: str

    def times(self, count: float) -> Joules:
        """Return `count` times as much; `count` is not negative."""
        return Joules(self.value * count, self.low * count, self.high * count, self.method, self.formula)

    def minus(self, other: Joules) -> Joules:
        """Return what is left after `other`, which may be less than nothing."""
        return Joules(
            value=self.value - other.value,
            low=self.low - other.high,
            high=self.high - other.low,
            method=_together((self, other)),
            formula=f"({self.formula}) - ({other.formula})",
        )


def add(amounts: Iterable[Joules]) -> Joules | None:
    """Return the sum with its range, modelled as soon as one of them is; None of none."""
    known = tuple(amounts)
    if not known:
        return None
    formula = " + ".join(dict.fromkeys(amount.formula for amount in known))
    value, low, high = (math.fsum(getattr(amount, end) for amount in known) for end in ("value", "low", "high"))
    return Joules(value, low, high, _together(known), formula)


class Energy:
    """Says what answers took, from seconds and tokens; with a meter, the local ones are measured."""

    def __init__(self, meter: PowerMeter | None = None) -> None:
        self._meter = meter

    def of_local(self, seconds: float) -> Joules:
        """Return what a local answer took that kept one core busy for `seconds`.

        Measured: seconds x the watts of one busy core over the last second and more (`counter.measured_watts`).
        """
        watts = self._meter.watts() if self._meter else None
        if watts is None:
            return _scaled(seconds, WATTS_PER_CORE, "modelled", LOCAL_FORMULA)
        formula = (
            "seconds on one core x watts of the processor's packages (RAPL) / busy cores; "
            "from an even share per core up to all of them"
        )
        return _scaled(seconds, watts, "measured", formula)

    def of_upstream(self, usage: Usage) -> Joules:
        """Return what the upstream took for these tokens; always a model."""
        prompt, completion = usage.prompt_tokens, usage.completion_tokens
        value, low, high = (
            prompt * getattr(PER_PROMPT_TOKEN, end) + completion * getattr(PER_COMPLETION_TOKEN, end)
            for end in ("value", "low", "high")
        )
        return Joules(value, low, high, "modelled", UPSTREAM_FORMULA)

    def joules_of(self, served_by: str, seconds: float, usage: Usage | None = None) -> float | None:
        """Return the joules of one settlement; None where an upstream's tokens are unknown, or nothing served.

        `served_by` is a specialist's name ("specialist:NAME" or "NAME@V"), an upstream's, or "none"; `seconds` is how
        long it took.
        """
        if is_specialist(served_by):
            return self.of_local(seconds).value
        return None if usage is None else self.of_upstream(usage).value


def open_energy() -> Energy:
    """Return the energy of this machine, measured where its counter can be read."""
    return Energy(open_meter())


def local_range(joules: float) -> Joules:
    """Return recorded joules of local answers with the model's range; the ledger keeps no method, so: modelled."""
    return _scaled(joules / WATTS_PER_CORE.value, WATTS_PER_CORE, "modelled", LOCAL_FORMULA)


def is_specialist(served_by: str) -> bool:
    """Say whether a name in `served_by` is a specialist's; no upstream's name may hold a colon or an at sign."""
    return served_by.startswith("specialist:") or served_by.rpartition("@")[2].isdecimal() and "@" in served_by


def _scaled(seconds: float, watts: Watts, method: Method, formula: str) -> Joules:
    return Joules(seconds * watts.value, seconds * watts.low, seconds * watts.high, method, formula)


def _together(amounts: Iterable[Joules]) -> Method:
    return "measured" if all(amount.method == "measured" for amount in amounts) else "modelled"
