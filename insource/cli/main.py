"""The entry: a table of commands, each imported only when called, and what is said when one fails.

It knows exit codes and streams; it does not know what a command does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from insource import __version__
from insource.cli.choices import Choices
from insource.errors import InsourceError, MissingExtra, TrafficError, UserError

COMMANDS: Mapping[str, tuple[str, str]] = {
    "demo": ("insource.cli.demo", "Run the whole loop on real public traffic."),
    "init": ("insource.cli.init", "Write a commented insource.toml to start from."),
    "discover": ("insource.cli.discover", "Find the tasks in a log, and what each is worth."),
    "backtest": ("insource.cli.backtest", "Replay a traffic file: what would it have saved?"),
    "train": ("insource.cli.train", "Train, certify and register a specialist."),
    "compress": ("insource.cli.compress", "Make a version smaller, and say what it cost."),
    "compare": ("insource.cli.compare", "Measure what could fit a task; recommend one."),
    "evaluate": ("insource.cli.evaluate", "Measure a specialist on a labelled file."),
    "tasks": ("insource.cli.tasks", "List tasks, their versions and what these promise."),
    "promote": ("insource.cli.promote", "Move a version on: shadow, canary, active."),
    "rollback": ("insource.cli.rollback", "End a trial, or go back to the version before."),
    "suspend": ("insource.cli.suspend", "Stop accepting a task's requests."),
    "resume": ("insource.cli.resume", "Accept a suspended task's requests again."),
    "serve": ("insource.cli.serve", "Run the gateway, an OpenAI-compatible endpoint."),
    "steward": ("insource.cli.steward", "Watch the evidence and move versions on."),
    "learn": ("insource.cli.learn", "Train again from what was escalated since."),
    "status": ("insource.cli.status", "Show a running gateway and what it did lately."),
    "keys": ("insource.cli.keys", "Make, list and revoke the gateway's keys."),
    "label": ("insource.cli.label", "Give the right answers that teach a task most."),
    "review": ("insource.cli.review", "Answer the requests that were kept for a person."),
    "explain": ("insource.cli.explain", "Say what decided a request or a text, step by step."),
    "report": ("insource.cli.report", "Sum up quality, coverage, risk and savings."),
    "audit": ("insource.cli.audit", "Check the ledger, and prove what it says."),
    "backup": ("insource.cli.backup", "Copy a home, checked, beside a running gateway."),
    "export": ("insource.cli.export", "Write a version to a folder that runs by itself."),
    "serve-scripted": ("insource.cli.serve_scripted", "Play back a traffic file as an upstream."),
    "config": ("insource.cli.config", "Show every setting and where it was set."),
    "doctor": ("insource.cli.doctor", "Check this machine, the store and the upstreams."),
}

DEBUG = "INSOURCE_DEBUG"
INTERRUPTED = 130
_SAYS_WHAT_TO_DO = (TrafficError, MissingExtra)
_EPILOG = "\b\nExample:\n  insource backtest last-month.jsonl --target-risk 0.05"


class Commands(click.Group):
    """The group: lists its commands without importing them, and turns every error into lines and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module and return its `command`, or None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[cmd_name][0]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or fail with the name that is nearest."""
        from difflib import get_close_matches

        near = get_close_matches(args[0], COMMANDS, n=1) if args[0] not in COMMANDS else []
        if near:
            ctx.fail(f"No such command '{args[0]}'. Did you mean '{near[0]}'?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands from the one-line helps."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and exit; every failure becomes lines on standard error and an exit code."""
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
            sys.stdout.flush()
        except BaseException as error:
            if not standalone_mode:
                raise
            code = _told(error)
        if not standalone_mode:
            return code
        sys.exit(code if isinstance(code, int) else 0)


@click.group(cls=Commands, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", type=click.Path(path_type=Path), metavar="PATH", help="The configuration [insource.toml].")
@click.option("--home", type=click.Path(path_type=Path), metavar="PATH", help="Where state lies [INSOURCE_HOME].")
@click.version_option(__version__, message="insource %(version)s")
@click.pass_context
def cli(ctx: click.Context, config: Path | None, home: Path | None) -> None:
    """Turn API traffic into specialists that you own, and answer locally only where a bound says it may."""
    ctx.obj = Choices(config, home)


def main() -> None:
    """Run the command line of this process."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    cli.main(prog_name="insource")


def _told(error: BaseException) -> int:
    """Say what happened on standard error and return the exit code."""
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code
    if isinstance(error, SystemExit):  # click's own way to end a pipe whose reader has gone
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, BrokenPipeError):
        _drop_output()
        return 1
    if isinstance(error, KeyboardInterrupt | click.Abort) and not isinstance(error.__cause__, EOFError):
        return INTERRUPTED
    if os.environ.get(DEBUG):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, InsourceError):
        click.echo(_lines(error), err=True)
        return error.exit_code
    cause = error.__cause__ if isinstance(error, click.Abort) else error
    advice = f"set {DEBUG}=1 for the traceback and please report it"
    said = " ".join(str(cause).split())
    click.echo(f"error: internal: {type(cause).__name__}: {said}; {advice}", err=True)
    return 1


def _lines(error: InsourceError) -> str:
    """Return message and hint; the hint is left out where it adds nothing to what the message says to do."""
    from insource.cli.output import printable

    message = printable(str(error), keep="\n\t")
    if isinstance(error, _SAYS_WHAT_TO_DO) or error.hint == UserError.hint or error.hint in message:
        return f"error: {message}"
    return f"error: {message}\n\nhint: {error.hint}"


def _drop_output() -> None:
    """Let what is left in the buffer go nowhere, or the interpreter complains at its end."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass


if __name__ == "__main__":
    main()
