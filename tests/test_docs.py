"""The documentation holds: marked blocks are executed in a temporary home, offline, and the reference is current."""

import itertools
import json
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from insource.backends.contract import Backend
from insource.types import Reason

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted((DOCS / "how-to").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = {"console", "python", "toml"}
READY = ("content:", "latency")
SECONDS = 120
SHORT = 800


class Session:
    """A reader at work in one folder: runs blocks in their order, with free ports in place of 8600 and 8700."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {"8600": free_port(), "8700": free_port()}
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("INSOURCE_")}
        self.env |= {"PATH": f"{Path(sys.executable).parent}:{self.env['PATH']}", "PWD": str(folder), "COLUMNS": "250"}
        self.env |= {"INSOURCE_HOME": str(folder / "state"), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        self.servers: list[subprocess.Popen[str]] = []

    def page(self, path: Path) -> int:
        """Run a page's blocks, then stop its servers; return how many blocks ran."""
        blocks = [(kind, text) for kind, text in BLOCK.findall(path.read_text("utf-8")) if kind in RUN]
        try:
            for kind, text in blocks:
                for old, new in self.ports.items():
                    text = text.replace(old, new)
                getattr(self, kind)(text)
        finally:
            self.stop()
        return len(blocks)

    def toml(self, text: str) -> None:
        (self.folder / "insource.toml").write_text(text)
        self.call(["insource", "config", "show"])

    def python(self, text: str) -> None:
        self.call([sys.executable, "-c", text])

    def console(self, text: str) -> None:
        for command, wanted in commands_of(text):
            if command.startswith("export "):
                name, value = command.removeprefix("export ").split("=", 1)
                self.env[name] = value.replace("$PWD", str(self.folder))
            elif command.startswith("insource serve"):
                check_output(command, wanted, self.serve(command))
            else:
                check_output(command, wanted, self.call(["bash", "-c", command]))

    def serve(self, command: str) -> str:
        """Start a server and return what it has said once it is ready."""
        server = subprocess.Popen(
            command.split(), cwd=self.folder, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.servers.append(server)
        said = ""
        for line in server.stdout or ():
            said += line
            if line.startswith(READY):
                return said
        raise AssertionError(f"$ {command}\nended before it was ready:\n{said}")

    def stop(self) -> None:
        """Stop the servers as Ctrl-C does; each must end well."""
        while self.servers:
            server = self.servers.pop()
            server.send_signal(signal.SIGINT)
            said, _ = server.communicate(timeout=SECONDS)
            assert server.returncode == 0, said

    def call(self, command: list[str]) -> str:
        """Run a command to its end and return what it said on standard output."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert done.returncode == 0, f"$ {command[-1]}\n{done.stdout}{done.stderr}"
        return done.stdout


def free_port() -> str:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return str(listening.getsockname()[1])


def commands_of(block: str) -> list[tuple[str, str]]:
    """Return each `$ command` of a block with the output that stands under it; a backslash continues a command."""
    parts = re.split(r"^\$ ", block.replace("\\\n", ""), flags=re.MULTILINE)
    assert not parts[0].strip(), f"a console block starts with a command, not with {parts[0]!r}"
    return [(command.strip(), output) for command, _, output in (part.partition("\n") for part in parts[1:])]


def check_output(command: str, wanted: str, got: str) -> None:
    """Compare output but for figures, digests and layout; `...` stands for anything. No output asks for nothing."""
    if wanted.strip():
        pattern = ".*".join(re.escape(plain(piece)) for piece in wanted.split("..."))
        told = f"$ {command}\nprinted\n{got}\nwhere the page has\n{wanted}"
        assert re.fullmatch(pattern, plain(got), re.DOTALL), told


def plain(text: str) -> str:
    text = re.sub(r"\b[0-9a-f]{12,64}\b", "#", text)
    text = re.sub(r"[ ▁▂▃▄▅▆▇█]+\|", "|", text)
    return re.sub(r"#+", "#", re.sub(r"[\s─]+", "", re.sub(r"[-+]?\d[\d,.:-]*", "#", text)))


def paths_of(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths_of(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield from paths_of(value[0], f"{path}[]")
    else:
        yield f"{path}[]" if isinstance(value, list) else path


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A reader who has done the tutorial."""
    reader = Session(tmp_path_factory.mktemp("reader"))
    assert reader.page(DOCS / "tutorial.md") > 10
    tickets = (reader.folder / "tickets.jsonl").read_bytes().splitlines(keepends=True)
    (reader.folder / "last-month.jsonl").write_bytes(b"".join(tickets[:SHORT]))
    return reader


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_block_runs_and_prints_what_the_page_says(session: Session, path: Path):
    session.page(path)


@pytest.mark.parametrize("name", ["backtest", "train", "evaluate"])
def test_every_field_of_a_result_is_documented_and_no_other(session: Session, name: str):
    page = (DOCS / "reference" / "json.md").read_text("utf-8")
    part = page.split(f"## `insource {name}`\n")[1].split("\n## ")[0]
    documented = re.findall(r"^\| `([\w.\[\]]+)` \|", part, re.MULTILINE)
    found = json.loads((session.folder / f"{name}.json").read_text())
    assert sorted(documented) == sorted(paths_of(found))


def test_output_that_differs_is_found():
    check_output("x", "coverage 72.0 % accepted", "coverage   70 % accepted\n")
    check_output("x", "coverage ...", "coverage 70 % accepted")
    with pytest.raises(AssertionError, match="where the page has"):
        check_output("x", "promise at most 5 %: held", "promise at most 5 %: NOT held")


def test_a_failing_block_is_found(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("```console\n$ insource tasks nobody\n```\n")
    with pytest.raises(AssertionError, match="nobody"):
        Session(tmp_path).page(page)


def test_the_reference_is_up_to_date():
    made = runpy.run_path(str(DOCS / "reference" / "make.py"))["made"]
    for path in sorted((DOCS / "reference").glob("*.md")):
        page = path.read_text("utf-8")
        assert made(page) == page, f"{path.name} is out of date: run scripts/reference"


def test_a_stale_page_is_found():
    made = runpy.run_path(str(DOCS / "reference" / "make.py"))["made"]
    assert made("<!-- made: metrics -->\nold\n<!-- end -->") != "<!-- made: metrics -->\nold\n<!-- end -->"
    with pytest.raises(KeyError):
        made("<!-- made: nothing -->\n<!-- end -->")


def test_every_reason_is_explained():
    page = (DOCS / "reference" / "http.md").read_text("utf-8")
    explained = re.findall(r"^\| `(\w+)` \| (?:accepted|escalated|kept) \|", page, re.MULTILINE)
    assert explained == [each.value for each in Reason]


def test_every_link_between_pages_leads_somewhere():
    for path in [*DOCS.rglob("*.md"), ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)]+)\)", path.read_text("utf-8")):
            file, _, heading = target.partition("#")
            if not file.startswith("http"):
                there = (path.parent / file).resolve() if file else path
                assert there.exists(), f"{path.name}: {target}"
                assert not heading or heading in anchors(there), f"{path.name}: {target}"


def anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_decisions_are_numbered_without_gaps_and_one_page_each():
    pages = sorted((DOCS / "decisions").glob("*.md"))
    assert [path.name[:4] for path in pages] == [f"{number:04}" for number in range(1, len(pages) + 1)]
    for path, heading in itertools.product(pages, ("Problem", "Options", "Choice", "Consequence")):
        assert f"## {heading}\n" in path.read_text("utf-8"), f"{path.name} lacks {heading}"


def test_the_contract_is_documented_as_it_is():
    page = (DOCS / "explanation" / "architecture.md").read_text("utf-8")
    for name in ("answer", "answer_many", "health", "info"):
        assert hasattr(Backend, name) and f"`{name}" in page
