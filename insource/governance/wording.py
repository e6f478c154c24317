"""How figures read: percent, money, durations and energy as a person expects them, and "unknown" where they are.

It knows numbers; not where they are shown, so what it returns is plain text.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from insource.governance.energy import Joules
from insource.governance.figures import Money, Share, TaskFigures, Totals, Verdict, VersionFigures

UNKNOWN = "unknown"
VERDICTS = {
    Verdict.HELD: "held by the audits",
    Verdict.UNDECIDED: "no breach seen, too few audits to say more",
    Verdict.BROKEN: "broken",
    Verdict.UNCHECKED: "not checked yet",
    Verdict.NOT_SERVING: "no active version",
}
SCALES = ((1e9, "GJ"), (1e6, "MJ"), (1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"))


def percent(share: float | None, digits: int = 1) -> str:
    """Return "5.0 %"; what only rounds to 0 or 100 % says so: "<0.1 %", ">99.9 %"."""
    if share is None:
        return UNKNOWN
    least, shown = 10.0**-digits, round(100 * share, digits)
    if shown == 0 and share > 0:
        return f"<{least:.{digits}f} %"
    if shown == 100 and share < 1:
        return f">{100 - least:.{digits}f} %"
    return f"{shown:.{digits}f} %"


def percent_range(share: Share | None) -> str:
    """Return "5.0 % (3.1 to 7.9 %)"."""
    return UNKNOWN if share is None else f"{percent(share.value)} ({share_range(share)})"


def share_range(share: Share) -> str:
    """Return "3.1 to 7.9 %"."""
    return f"{100 * share.low:.1f} to {100 * share.high:.1f} %"


def count(number: int) -> str:
    """Return "1,234"."""
    return f"{number:,}"


def money(money: Money) -> str:
    """Return "12.34 USD", and for how many requests it is known where not for all."""
    if money.amount is None:
        return UNKNOWN
    currency = f" {money.currency}" if money.currency else ""
    partly = f" (known for {count(money.known)})" if money.known < money.settled else ""
    return f"{_amount(money.amount)}{currency}{partly}"


def saved(money: Money) -> str:
    """Return "12.34 USD": as `money`, but escalated requests save nothing, so their number is not told."""
    return UNKNOWN if money.amount is None else f"{_amount(money.amount)} {money.currency or ''}".strip()


def milliseconds(seconds: float | None) -> str:
    """Return seconds as "0.083 ms", "4.7 ms" or "1,250 ms"."""
    if seconds is None:
        return UNKNOWN
    value = 1000 * seconds
    places = next((places for limit, places in ((0.1, 3), (1, 2), (10, 1)) if value < limit), 0)
    return f"{value:,.{places}f} ms"


def joules(energy: Joules | None, *, value: bool = True) -> str:
    """Return "12 kJ (400 J to 160 kJ), modelled"; without `value` "400 J to 160 kJ, modelled"."""
    if energy is None:
        return UNKNOWN
    ends = f"{_energy(energy.low)} to {_energy(energy.high)}"
    return f"{_energy(energy.value)} ({ends}), {energy.method}" if value else f"{ends}, {energy.method}"


def joules_value(energy: Joules | None) -> str:
    """Return "12 kJ"; never to be shown without its range."""
    return UNKNOWN if energy is None else _energy(energy.value)


def moment(time: datetime) -> str:
    """Return "2026-11-21 12:00 UTC"."""
    return time.strftime("%Y-%m-%d %H:%M UTC")


def promise(task: TaskFigures) -> str:
    """Return the promise and what serves it, in sentences."""
    said = (
        f"Promised: at most {percent(task.target_risk)} of accepted answers differ from the reference, at confidence "
        f"{task.confidence_level:g}."
    )
    for answer, limit in task.guards.items():
        said += f" Of requests whose reference is {answer}, at most {percent(limit)} may be missed."
    active = task.active
    if active is None:
        return f"{said} No version is active, so every request goes upstream."
    said += f" Active: {active.name}, {active.family}."
    if active.risk_upper_bound is not None:
        said += (
            f" Certified on {count(active.evidence_rows or 0)} requests: coverage "
            f"{percent(active.certified_coverage)}, risk at most {percent(active.risk_upper_bound)}."
        )
    return said


def verdicts(totals: Totals) -> str:
    """Return how many promises are broken, held and neither, of the tasks that have an active version."""
    serving = sum(totals.verdicts.values()) - totals.verdicts.get(Verdict.NOT_SERVING, 0)
    if not serving:
        return "none in force"
    broken, held = (totals.verdicts.get(verdict, 0) for verdict in (Verdict.BROKEN, Verdict.HELD))
    return f"{broken} broken, {held} held" + (f", {serving - broken - held} open" if serving - broken - held else "")


def promoted(version: VersionFigures) -> str:
    """Return who promoted a version when and why, latest last."""
    told = (f"{moment(act.time)} by {act.who}: {act.why or 'no reason given'}" for act in version.promotions)
    return "; ".join(told) or "never"


def _amount(amount: Decimal) -> str:
    places = 2 if not amount or abs(amount) >= Decimal("0.01") else 1 - amount.adjusted()
    return f"{amount:,.{places}f}"


def _energy(value: float) -> str:
    for scale, unit in SCALES:
        if abs(value) >= scale:
            return f"{value / scale:.3g} {unit}" if abs(value) < 999.5 * scale else f"{value / scale:,.0f} {unit}"
    return "0 J" if value == 0 else f"{value / SCALES[-1][0]:.2g} {SCALES[-1][1]}"
