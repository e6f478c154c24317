"""The tables of a comparison, in 100 columns, and the recommendation in sentences. It reads the JSON alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from insource.cli.output import UNKNOWN, milliseconds, percent, table

if TYPE_CHECKING:
    from rich.console import Console

Result = Mapping[str, Any]


def show(console: Console, result: Result) -> None:
    """Print a comparison."""
    console.print(table(f"what {result['task']} needs", ("", ""), complexity_rows(result["complexity"])))
    columns = ("candidate", "", "accuracy, 95 %", "accepts", f"{result['prices']['currency']}/1,000", "p50 · p99 ms",
               "leaves", "MB")  # fmt: skip
    console.print(table(_title(result), columns, [*map(_row, result["candidates"]), _alone(result)]))
    console.print(f"*: no other is at least as good in accuracy, cost, p50 and what leaves. {_counted(result)}")
    if result["not_tried"]:
        rows = [(each["name"], each["what"], each["why"]) for each in result["not_tried"]]
        console.print(table("not measured", ("candidate", "", "why"), rows))
    if result["next_point"]:
        _show_steps(console, result)
    for line in (recommended(result), *about(result)):
        console.print(line)
    if result["changes"]:
        console.print("What would change that:")
        for each in result["changes"]:
            console.print(f"  {change_told(each)}")
    console.print(f"Next: insource promote {result['task']}@{result['recommendation']['version']}")


def complexity_rows(told: Result) -> list[tuple[str, str]]:
    """Return what the data needs, line by line."""
    noise = told["label_noise"]
    rows = [
        ("answers", f"{told['answers']:,} in a {told['answer_form']} set · the largest {percent(told['largest_share'])}"
                    f" · the rarest {told['smallest_rows']:,} rows · evenness {told['evenness']:.2f}"),
        ("rows", f"{told['rows']:,}, of which {told['groups']:,} are no near-duplicates · "
                 f"{told['median_words']:g} words in the median"),
        ("label noise", "unknown" if noise is None else f"about {percent(noise)} of the references look wrong"),
    ]  # fmt: skip
    return [*rows, *(("learning curve", curve_told(each)) for each in told["curves"])]


def curve_told(curve: Result) -> str:
    """Return a learning curve in one line."""
    points, gained = curve["points"], curve["per_doubling"]
    shares = ", ".join(f"{percent(each['accuracy'])} of {each['rows']:,}" for each in points)
    return f"{curve['family']}: {shares}" + ("" if gained is None else f" · {100 * gained:+.1f} points a doubling")


def recommended(result: Result) -> str:
    """Return the recommendation and its reason in a sentence."""
    chosen = result["recommendation"]
    return f"Recommended: {chosen['name']} ({result['task']}@{chosen['version']}): {chosen['why']}."


def about(result: Result) -> list[str]:
    """Return what to know of the recommended version: what it misses, what it costs, where the texts go."""
    found = chosen_of(result)
    calibration = found["calibration"]
    missed = [f"It misses what the task requires: {miss}." for miss in found["misses"]]
    if calibration is None or calibration["threshold"] is None:
        missed.append("It certifies nothing, and so would accept nothing.")
    return [*missed, cost_told(result, found), sovereignty_told(result, found)]


def chosen_of(result: Result) -> Result:
    """Return the recommended candidate."""
    name = result["recommendation"]["name"]
    found: Result = next(each for each in result["candidates"] if each["name"] == name)
    return found


def cost_told(result: Result, found: Result) -> str:
    """Return what a thousand requests cost, part by part."""
    cost, prices = found["cost_per_thousand"], result["prices"]
    parts = [f"{amount(cost[part])} {told}" for part, told in (
        ("compute", "compute"), ("energy", "energy"), ("training", f"training (of {prices['requests_per_month']:,} a "
                                                                   "month)"), ("upstream", "upstream"),
    ) if cost[part] is not None]  # fmt: skip
    whole = f"A thousand requests cost {amount(cost['total'])} {prices['currency']}: {' + '.join(parts)}"
    alone = result["upstream"]["cost_per_thousand"]
    if alone is None:
        return f"{whole}; what is escalated comes on top, at a price that is unknown (--price-in, --price-out)."
    return f"{whole}. The upstream alone: {amount(alone)}."


def sovereignty_told(result: Result, found: Result) -> str:
    """Return where the texts go."""
    upstream, share = result["upstream"], percent(found["sent_up"])
    if not upstream["may_leave"]:
        return f"Nothing may leave: {share} of the requests are kept, and wait for a person or get the best guess."
    where = ", ".join(f"{each['name']} ({each['jurisdiction'] or 'jurisdiction not stated'})"
                      for each in upstream["places"]) or "the upstream (none is configured)"  # fmt: skip
    return f"{share} of the requests leave the house, escalated or audited, to {where}."


def amount(given: Decimal | str | None) -> str:
    """Return money with two places, or below 0.1 two digits that count."""
    if given is None:
        return UNKNOWN
    value = Decimal(given)
    return f"{value:,.{max(2, 1 - value.adjusted()) if value else 2}f}"


def _title(result: Result) -> str:
    callers = result["concurrency"]
    at_once = "one caller" if callers == 1 else f"{callers} callers at once"
    took = f"{result['seconds']:.0f} of {result['time_budget']:.0f} s"
    return f"{len(result['candidates'])} versions on {result['test_rows']:,} test rows, {at_once}, {took}"


def _row(each: Result) -> Sequence[object]:
    low, high = (100 * each["accuracy_interval"][end] for end in ("low", "high"))
    p50, p99 = (milliseconds(each["latency_ms"][which]).removesuffix(" ms") for which in ("p50", "p99"))
    calibration = each["calibration"]
    return (
        each["name"] + (" (misses)" if each["misses"] else ""),
        f"@{each['version']}{'*' if each['on_front'] else ''}",
        f"{100 * each['accuracy']:.1f} ({low:.1f}-{high:.1f})",
        percent(calibration["coverage"] if calibration else 0.0),
        amount(each["cost_per_thousand"]["total"]),
        f"{p50} · {p99}",
        percent(each["sent_up"]),
        f"{each['size_bytes'] / 1e6:.1f}",
    )


def _alone(result: Result) -> Sequence[object]:
    leaves = "100.0 %" if result["upstream"]["may_leave"] else "-"
    return "upstream alone", "", "", "", amount(result["upstream"]["cost_per_thousand"]), "", leaves, ""


def _counted(result: Result) -> str:
    return (
        "The interval is exact binomial; accepts: certified coverage."
        if result["upstream"]["cost_per_thousand"] is not None
        else "The interval is exact binomial; accepts: certified coverage; costs are those in the house."
    )


def _show_steps(console: Console, result: Result) -> None:
    rows = [
        (f"{each['before']} -> {each['after']}", f"{each['points']:.1f}", signed(each["money"]),
         f"{each['milliseconds']:+.2g}", f"{each['megabytes']:+.2g}", "within noise" if each["within_noise"] else "")
        for each in result["next_point"]
    ]  # fmt: skip
    columns = ("one more point of accuracy costs", "points", f"{result['prices']['currency']}/million", "ms", "MB", "")
    console.print(table("the price of the next point", columns, rows))


def signed(value: Decimal | str) -> str:
    """Return money with its sign."""
    return ("+" if Decimal(value) >= 0 else "") + amount(value)


def change_told(each: Result) -> str:
    """Return one thing that would change the recommendation."""
    if each["name"] is None:
        return f"{each['condition']}: {each['told']}"
    return f"{each['condition']}: {each['name']} ({each['told']})"
