"""`insource audit verify`: derives everything anew from the stored bytes; says what holds, what not, what is unknown.

It shows what `store.proof.verify` found; it judges and repairs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from insource.cli.opening import configuration
from insource.cli.output import emit, json_option, printable, table
from insource.cli.progress import Bars

if TYPE_CHECKING:
    from rich.console import Console

    from insource.config import Config
    from insource.store.proof.verify import Outside, Verdict


@click.command("verify", epilog="\b\nExample:\n  insource audit verify --checkpoint kept-last-month.txt")
@click.option("--key", metavar="KEY", help="The public key as you were given it [what the ledger names].")
@click.option("--checkpoint", "kept", multiple=True, type=click.Path(path_type=Path, dir_okay=False, exists=True),
              metavar="FILE", help="A checkpoint that you kept elsewhere; may be given several times.")  # fmt: skip
@json_option
@click.pass_context
def verify(ctx: click.Context, key: str | None, kept: tuple[Path, ...], json_path: str | None) -> None:
    """Check rows, texts, tiles and signed checkpoints against each other, from their bytes.

    The witness of the configuration is taken as one more checkpoint kept elsewhere. Exits with 1 where something does
    not hold, and names the first bad row.
    """
    from insource.store.proof.verify import verify as verified

    config = configuration(ctx)
    outside = _outside(config, key, kept)
    with Bars() as bars:
        verdict = verified(config.home, outside, bars.say("rows"))
    data = to_data(verdict, outside)
    emit(data, json_path, lambda console: _show(console, data))
    ctx.exit(0 if data["sound"] else 1)


def _outside(config: Config, key: str | None, kept: tuple[Path, ...]) -> Outside:
    from insource.store.proof.folder import read_note
    from insource.store.proof.note import PublicKey
    from insource.store.proof.verify import Outside

    notes = {f"the checkpoint in {path}": read_note(path) or "" for path in kept}
    if config.store.witness is not None:
        notes[f"the witness {config.store.witness}"] = read_note(config.store.witness) or ""
    return Outside(None if key is None else PublicKey.read(key), {where: note for where, note in notes.items() if note})


def to_data(verdict: Verdict, outside: Outside) -> dict[str, Any]:
    """Return the verdict as `--json` has it; what cannot be established is said in words."""
    faults = [{"row": fault.row, "what": fault.what} for fault in verdict.faults]
    if verdict.refusal is not None:
        faults.append({"row": None, "what": f"the writer refuses to sign: {verdict.refusal}"})
    return {
        "sound": not faults,
        "first_bad_row": next((fault["row"] for fault in faults if fault["row"] is not None), None),
        "faults": faults,
        "more_faults": verdict.more,
        "known": verdict.known,
        "rows": verdict.rows,
        "root": verdict.root.hex(),
        "signed": verdict.signed,
        "key": verdict.key,
        "commits": verdict.heads,
        "tiles": verdict.tiles,
        "tiles_missing": verdict.tiles_missing,
        "checkpoints": verdict.checkpoints,
        "texts": {name: verdict.texts[name] for name in ("sound", "kept as digests", "erased")},
        "not_established": list(_unknown(verdict, outside)),
    }


def _unknown(verdict: Verdict, outside: Outside) -> Iterator[str]:
    if not outside.notes:
        yield (
            "whether the whole history was replaced, or its end cut off: no checkpoint kept elsewhere was given "
            "(--checkpoint FILE, or [store] witness)"
        )
    if outside.key is None:
        yield "whose key this is: compare it with the one that you were given by another way (--key KEY)"
    if verdict.rows > verdict.signed:
        yield f"who wrote the last {verdict.rows - verdict.signed:,} rows: no checkpoint covers them yet"
    if verdict.texts["erased"]:
        yield f"whether {verdict.texts['erased']:,} texts that are gone were erased rightly"
    if verdict.texts["kept as digests"]:
        yield f"what {verdict.texts['kept as digests']:,} texts said of which only the digest was kept"
    yield "whether what was recorded was true when it was written"


def _show(console: Console, data: Mapping[str, Any]) -> None:
    if data["sound"]:
        console.print(f"All {data['rows']:,} rows are there, in their order, and as they were written.")
    else:
        console.print("The ledger is not as it was written.")
    rows = [
        ("rows", f"{data['rows']:,}"),
        ("of these signed", f"{data['signed']:,}"),
        ("commits compared", f"{data['commits']:,}"),
        ("tiles compared", f"{data['tiles']:,}" + (f" ({data['tiles_missing']:,} missing; they are made anew)"
                                                   if data["tiles_missing"] else "")),
        ("checkpoints compared", f"{data['checkpoints']:,}"),
        ("texts", ", ".join(f"{number:,} {name}" for name, number in data["texts"].items())),
        ("key", data["key"] or "none"),
    ]  # fmt: skip
    console.print(table(None, ("", ""), rows))
    for fault in data["faults"]:
        console.print(printable(f"! {fault['what']}"))
    if data["more_faults"]:
        console.print(f"! and {data['more_faults']:,} more")
    for line in data["known"]:
        console.print(printable(f"known, reconciled since: {line}"))
    console.print("Not established:")
    for line in data["not_established"]:
        console.print(printable(f"- {line}"))
