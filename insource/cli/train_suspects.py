"""What `insource train --show-suspects` adds: the examples whose answer looks wrong, as a table and as JSON.

It shows what training found; how that is found is `training.suspects`' business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from insource.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from insource.training.outcome import Trained

SHOWN_CHARACTERS = 60


def check_choices(chosen: Mapping[str, Any]) -> None:
    """Raise UserError for a choice beside --show-suspects under which nothing is cross-fitted."""
    for name in ("tier", "no_certify"):
        if chosen["suspects"] is not None and chosen[name]:
            flag = name.replace("_", "-")
            raise UserError(f"--show-suspects was given beside --{flag}, which cross-fits nothing. Drop one of them.")


def listed(trained: Trained) -> dict[str, Any]:
    """Return every suspect, to stand in the JSON beside what training tells."""
    noise = trained.figures.noise
    return {"suspects": noise.listed() if noise is not None else []}


def show(console: Console, trained: Trained, most: int) -> None:
    """Print the surest suspects, at most `most`, and what the references' noise is estimated at."""
    from insource.cli.output import percent, table

    noise = trained.figures.noise
    if noise is None:
        console.print(f"No list of suspects: family {trained.version.family} was not cross-fitted. Take --family auto.")
        return
    shown = noise.suspects[:most]
    if shown:
        rows = [(each.request, _shortened(each.text), each.given, each.suggested, percent(each.sure)) for each in shown]
        console.print(table("answers that look wrong", ("example", "text", "given", "suggested", "sure"), rows))
    more = f", {len(shown):,} of them above" if len(shown) < len(noise.suspects) else ""
    console.print(
        f"Of {noise.rows:,} references {len(noise.suspects):,} look wrong to {' and '.join(noise.families)}{more}; "
        f"about {percent(noise.rate)} are wrong by estimate. Nothing was changed: mend the file, and train again."
    )


def _shortened(text: str) -> str:
    """Return a text on one line, its end cut off."""
    line = " ".join(text[: 10 * SHOWN_CHARACTERS].split())
    return line if len(line) <= SHOWN_CHARACTERS else line[: SHOWN_CHARACTERS - 3] + "..."
