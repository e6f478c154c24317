"""`insource init`: writes a commented insource.toml to start from, and says what comes next.

It knows the template; every key in it stands in `config.settings`.
"""

from __future__ import annotations

from pathlib import Path

import click

from insource.cli.choices import Choices
from insource.errors import UserError

TEMPLATE = """\
# insource.toml: what people set. What was learned (thresholds, stages) is in the registry, and keys are never in here.
# `insource config show` prints every setting, its value and where it was set.

[gateway]
host = "127.0.0.1"            # others only once there are keys
port = 8600

# [store]
# home = "state"              # all state; by default your user data folder. A relative path starts where this file lies
# retention_days = 30         # stored content is erased after that; decisions stay

[upstreams.openai]            # where everything goes that no specialist may answer
base_url = "https://api.openai.com/v1"
# api_key_env = "OPENAI_API_KEY"   # the variable that holds the key; without it each client's own key is passed on
# model = "gpt-4o-mini"       # what to ask for where a client asks for task:NAME
# price_in = 0.15             # per million tokens; without prices, money reads null
# price_out = 0.60
# currency = "USD"
# jurisdiction = "US"

# [tasks.example]             # a kind of request worth taking over
# target_risk = 0.05          # the promise: at most this share of accepted answers differs from the reference
# confidence_level = 0.95     # ... at this confidence level
# audit_rate = 0.05           # share of requests that also get the reference, to keep measuring
# content = "digest"          # "full" keeps the text, needed to learn from this traffic; "none" not even a digest
# retention_days = 30         # ... for so long; else store.retention_days
#
# [tasks.example.match]       # `model = "task:example"` always matches; these do as well
# system_prompt = "Sort the ticket into one of: billing, shipping, other."
#
# [tasks.example.guard]       # of the requests whose reference is "billing", at most a tenth accepted as something else
# billing = 0.10
"""

_NEXT = """\
Next:
  insource backtest last-month.jsonl     what would have been saved, at which risk; offline, no key
  insource train FILE --task NAME        train and certify a specialist
  insource promote NAME                  let it serve
  insource serve                         then point any OpenAI client at http://127.0.0.1:8600/v1"""


@click.command(epilog="\b\nExample:\n  insource init && insource config show")
@click.option("--force", is_flag=True, help="Write a new file where one exists; the old one is kept as .bak.")
@click.pass_context
def command(ctx: click.Context, force: bool) -> None:
    """Write a commented insource.toml, here or where --config says."""
    choices = ctx.find_object(Choices) or Choices()
    path = choices.config or Path("insource.toml")
    kept = write_template(path, force=force)
    if kept is not None:
        click.echo(f"kept the old file as {kept}")
    click.echo(f"wrote {path}\n\n{_NEXT}")


def write_template(path: Path, *, force: bool) -> Path | None:
    """Write the template; with `force` an existing file is renamed, and its new path returned.

    Raises UserError where the file exists and is not to be replaced, or cannot be written.
    """
    kept = None
    try:
        if force and path.is_file():
            kept = _free_name(path)
            path.rename(kept)
        with path.open("x", encoding="utf-8") as file:
            file.write(TEMPLATE)
    except FileExistsError:
        raise UserError(
            f"{path} exists; nothing was changed. A new file was expected. Edit it, name another one with --config, "
            "or pass --force to keep it as .bak and write a new one."
        ) from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}); a file in a folder of yours was expected. "
            "Check the folder, or name another file with --config."
        ) from error
    return kept


def _free_name(path: Path) -> Path:
    """Return NAME.bak, or NAME.bak2 and so on where older ones stand."""
    number, name = 1, path.with_name(path.name + ".bak")
    while name.exists():
        number += 1
        name = path.with_name(f"{path.name}.bak{number}")
    return name
