"""What is loaded when: module lists of fresh interpreters, no clock."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import insource
from insource.cli.main import COMMANDS

ROOT = Path(insource.__file__).parents[1]
MARK, HELP = "modules:", "help:"


def loaded(code: str) -> set[str]:
    """Run code in a fresh interpreter and return the modules it loaded; it must end well."""
    (line,) = [line for line in run_fresh(code) if line.startswith(MARK)]
    return set(line.removeprefix(MARK).split())


def run_fresh(code: str) -> list[str]:
    """Run code in a fresh interpreter, and return the lines of its standard error; it must end well."""
    whole = (
        f"import sys\nbefore = set(sys.modules)\ntry:\n    {code}\nexcept SystemExit as end:\n"
        f"    assert not end.code, end.code\nprint('{MARK}', *(set(sys.modules) - before), file=sys.stderr)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-W", "error", "-c", whole], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


def third_party(names: set[str]) -> set[str]:
    """The packages among modules that are neither Python's nor ours."""
    return {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"insource"}


def command_line(*arguments: str) -> set[str]:
    return loaded(f"from insource.cli.main import main; sys.argv = ['insource', *{arguments!r}]; main()")


def test_the_package_alone_loads_nothing_else():
    names = loaded("import insource")
    assert third_party(names) == set()
    assert {name for name in names if name.startswith("insource")} == {"insource"}


def test_the_list_of_modules_sees_packages():
    assert "numpy" in third_party(loaded("import insource.risk.bounds"))


def test_help_loads_click_alone():
    names = command_line("--help")
    assert third_party(names) == {"click"}
    assert {name for name in names if name.startswith("insource.cli.")} == {"insource.cli.main", "insource.cli.choices"}
    assert "asyncio" not in names


@pytest.fixture(scope="module")
def told() -> dict[str, set[str]]:
    """Each command's packages, by what an interpreter holds after its help and those of the commands before it."""
    code = (
        "from insource.cli.main import main, COMMANDS\n"
        "    for name in COMMANDS:\n"
        "        sys.argv = ['insource', name, '--help']\n"
        "        try: main()\n"
        "        except SystemExit as end: assert not end.code, end.code\n"
        f"        print('{HELP}', name, *(set(sys.modules) - before), file=sys.stderr)"
    )
    lines = [line.split() for line in run_fresh(code) if line.startswith(HELP)]
    return {name: third_party(set(names)) for _, name, *names in lines}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_loads_click_alone(told, name):
    assert told[name] == {"click"}


def test_showing_the_configuration_loads_no_numbers_and_no_server(tmp_path):
    names = third_party(command_line("--home", str(tmp_path), "config", "show", "--json", "-"))
    assert names == {"click"}


SERVING = (
    "import insource.gateway.worker, insource.store.registry, insource.backends.specialist, insource.backends.linear"
)
NEVER_WHILE_SERVING = {"torch", "sklearn", "transformers", "onnx", "joblib", "pandas", "openai", "rich"}
NOT_FOR_LINEAR = {"onnxruntime", "tokenizers"}
SLOW_PARTS = {"scipy.stats", "scipy.optimize", "scipy.sparse", "scipy.linalg"}


def test_the_serving_path_loads_nothing_that_only_training_needs():
    names = loaded(SERVING)
    assert third_party(names) & (NEVER_WHILE_SERVING | NOT_FOR_LINEAR) == set()
    assert {name for name in names if name.startswith(("insource.training", "insource.lifecycle"))} == set()
    assert {"starlette", "uvicorn", "httptools", "apsw"} <= third_party(names)


def test_the_serving_path_loads_no_slow_part_of_scipy():
    assert loaded(SERVING) & SLOW_PARTS == set()
