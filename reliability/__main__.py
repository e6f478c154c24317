"""`scripts/soak ID`: runs one promise in full, in chunks that a kill cannot spoil, and writes down what was seen."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from reliability.harness import Promise, promises
from reliability.results import FILE, PAGE, Result, keep_result, page, read_results
from reliability.soaking import Busy, folder, show_progress, soak


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line asks; exit with 1 where a promise does not hold or its control is not found."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("ids", nargs="*", metavar="ID", help="promises, such as R2")
    parser.add_argument("--cases", type=int, metavar="N", help="only the first N cases: a sample")
    parser.add_argument("--fresh", action="store_true", help="forget what was run before")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the results of this run there as well")
    parser.add_argument("--list", action="store_true", help="list every promise and its last result")
    parser.add_argument("--write", action="store_true", help="make docs/reliability.md from the results")
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)  # what the product says of the faults it is given
    known = promises()
    ids = [each.upper() for each in options.ids]
    if unknown := [each for each in ids if each not in known]:
        parser.error(f"{', '.join(unknown)}: expected one of {', '.join(known)}")
    if not (ids or options.list or options.write):
        parser.error("name a promise, or use --list or --write")
    results = [_run(known[each], options.cases, fresh=options.fresh) for each in ids]
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n", "utf-8")
    if options.write:
        PAGE.write_text(page(read_results(), known.values()), "utf-8")
    if options.list:
        _list(known)
    return 0 if all(result.held for result in results) else 1


def _run(promise: Promise, cases: int | None, *, fresh: bool) -> Result:
    """Try the control, then the promise; show the verdict and keep it."""
    number = min(cases or promise.full, promise.full)
    _say(f"{promise.id}: {promise.says}. {number:,} {promise.unit}.")
    control = _control(promise)
    try:
        found = soak(promise, number, folder() / f"{promise.id}.jsonl", show_progress, fresh=fresh)
    except Busy as error:
        raise SystemExit(str(error)) from error
    complaints = (*promise.judge(found.tally), *([] if control else ["the control was not found"]))
    result = Result(
        id=promise.id, says=promise.says, asked=promise.asked, seen=promise.seen(found.tally), complaints=complaints,
        control=control, open=promise.open, cases=len(found.done), full=promise.full, unit=promise.unit,
        seconds=round(found.seconds, 1), builds=tuple(found.builds),
        command=f"scripts/soak {promise.id}" + (f" --cases {cases}" if cases else ""),
        date=datetime.now(UTC).date().isoformat(),
    )  # fmt: skip
    _verdict(result)
    for failure in found.tally.failures[:20]:
        _say(f"  case {failure.case}: {failure.what}")
    if not keep_result(result):
        _say(f"An earlier run of more cases held; {FILE.name} keeps that one.")
    return result


def _control(promise: Promise) -> str:
    """Return what the judge says of the broken build: the control is found where that is something."""
    with tempfile.TemporaryDirectory(prefix=f"soak-{promise.id}-control-") as scratch:
        tally = promise.try_cases(range(promise.control), Path(scratch), broken=True)
    return "; ".join(promise.judge(tally))


def _verdict(result: Result) -> None:
    held = "HOLDS" if result.held and not result.open else "HOLDS IN PART" if result.held else "DOES NOT HOLD"
    _say(f"\n{result.id} {held} ({result.cases:,} of {result.full:,} {result.unit}, {result.seconds:.0f} s)")
    _say(f"  asked    {result.asked}\n  seen     {result.seen}\n  control  {result.control or 'NOT FOUND'}")
    for complaint in result.complaints:
        _say(f"  not held {complaint}")
    if result.open:
        _say(f"  open     {result.open}")
    if len(result.builds) > 1:
        _say(f"  note     the cases were run on {len(result.builds)} states of the sources; --fresh starts over")


def _list(known: dict[str, Promise]) -> None:
    results = read_results()
    for promise in known.values():
        last = results.get(promise.id)
        told = f"{'held' if last.held else 'NOT HELD'}, {last.cases:,} cases, {last.date}" if last else "not run yet"
        _say(f"{promise.id:<4} {promise.says}  [{promise.full:,} {promise.unit}; {told}]")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
