"""The entry: lazy commands, errors as lines, exit codes."""

from importlib import import_module

import click
import pytest
from click.testing import CliRunner

from insource.cli.main import COMMANDS, Commands, cli
from insource.errors import ArtifactDamaged, DataError, InsourceError, MissingExtra, TrafficError, UserError


def failing(error: BaseException) -> click.Group:
    """The group with one more command, which raises `error`."""

    class Failing(Commands):
        def get_command(self, ctx, cmd_name):
            @click.command()
            def command():
                raise error

            return command

    return Failing("insource")


def outcome(error: BaseException) -> tuple[int, str]:
    result = CliRunner().invoke(failing(error), ["demo"])
    assert result.stdout == ""
    return result.exit_code, result.stderr


def test_help_lists_every_command_in_order_with_its_line():
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0
    listed = [line.split()[0] for line in result.stdout.split("Commands:")[1].split("Example:")[0].splitlines()
              if line.startswith("  ") and line[2:3].strip()]  # fmt: skip
    assert listed == list(COMMANDS)
    assert result.stdout.rstrip().endswith("insource backtest last-month.jsonl --target-risk 0.05")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_ends_with_an_example(name):
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0, result.stderr
    example = result.stdout.rstrip().rpartition("Example:\n")[2].strip()
    assert example.startswith(f"insource {name}")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_s_options_are_told(name):
    """An option without a help text is a riddle."""
    command = import_module(COMMANDS[name][0]).command
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert [option.name for option in options if not option.help] == []


def test_version():
    result = CliRunner().invoke(cli, ["--version"])
    assert (result.exit_code, result.stdout) == (0, "insource 0.1.0\n")


def test_a_mistyped_command_gets_the_nearest_name():
    result = CliRunner().invoke(cli, ["promot"])
    assert result.exit_code == 2
    assert "Did you mean 'promote'?" in result.stderr


def test_an_unknown_command_far_from_all_others_is_refused():
    result = CliRunner().invoke(cli, ["xylophone"])
    assert result.exit_code == 2
    assert "No such command 'xylophone'" in result.stderr


@pytest.mark.parametrize(("error", "code"), [(ArtifactDamaged("Bytes differ."), 1), (DataError("Too few."), 2)])
def test_an_error_is_its_message_a_blank_line_and_its_hint(error, code):
    assert outcome(error) == (code, f"error: {error}\n\nhint: {error.hint}\n")


@pytest.mark.parametrize("error", [TrafficError("3 lines are bad."), MissingExtra("Run pip."), UserError("Name one."),
                                   InsourceError(f"So. {InsourceError.hint}")])  # fmt: skip
def test_a_hint_that_adds_nothing_is_left_out(error):
    assert outcome(error)[1] == f"error: {error}\n"


def test_control_characters_of_a_message_do_not_reach_the_terminal():
    assert (
        outcome(UserError("line one\n\tanswer \x1b[31mred\x07"))[1] == "error: line one\n\tanswer \ufffd[31mred\ufffd\n"
    )


def test_an_unexpected_exception_is_one_line_and_no_traceback(monkeypatch):
    monkeypatch.delenv("INSOURCE_DEBUG", raising=False)
    code, told = outcome(KeyError("two\nlines"))
    assert code == 1
    assert told.startswith("error: internal: KeyError: ")
    assert told.endswith("; set INSOURCE_DEBUG=1 for the traceback and please report it\n")
    assert told.count("\n") == 1


def test_debug_shows_the_traceback_too(monkeypatch):
    monkeypatch.setenv("INSOURCE_DEBUG", "1")
    told = outcome(KeyError("x"))[1]
    assert "Traceback" in told
    assert "error: internal: KeyError" in told


def test_an_interrupt_ends_with_130_and_without_a_word():
    code, told = outcome(KeyboardInterrupt())
    assert (code, told.strip()) == (130, "")


def test_an_end_of_file_inside_a_command_is_no_interrupt():
    code, told = outcome(EOFError("early"))
    assert code == 1
    assert "internal: EOFError: early" in told


def test_without_standalone_mode_errors_pass_through():
    with pytest.raises(DataError):
        failing(DataError("Too few.")).main(["demo"], standalone_mode=False)


def test_a_reader_that_went_away_is_met_with_silence(started):
    """As in `insource --help | true`: the pipe is closed before anything is written."""
    child = started("--help")
    child.stdout.close()
    assert child.stderr.read() == ""
    assert child.wait() == 1


def test_errors_of_a_real_process(process):
    done = process("tasks", "nosuch")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: Task 'nosuch' has no version here")
    assert "Traceback" not in done.stderr


def test_an_unreadable_configuration_is_told_with_the_file(run, tmp_path):
    (tmp_path / "other.toml").write_text("[gateway]\nprot = 1\n")
    done = run("--config", "other.toml", "config", "show")
    assert done.code == 2
    assert "other.toml:2: unknown key 'prot'" in done.err
