"""The README keeps its promises: what stands in its first sixty lines, its links, and the commands it names."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from insource.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
FIRST = "\n".join(README.splitlines()[:60])
LONGEST_DEMO = 22


@pytest.mark.parametrize(
    "said",
    ["scripts/demo", "scripts/test", "base_url=", "What the bound promises", "What it does not promise", "marginal",
     "per version", "exchangeable", "no drift", "measured, not proven", "inconsistency", "guard", "docs/tutorial.md"],
)  # fmt: skip
def test_the_first_sixty_lines_say(said: str):
    assert said in FIRST


def test_it_opens_with_one_sentence_and_real_output():
    lines = README.splitlines()
    assert lines[0] == "# insource" and lines[2].endswith(".") and lines[3] == ""
    demo = FIRST.split("<!-- demo output -->\n")[1].split("<!-- end of demo output -->")[0]
    assert 3 < len(demo.splitlines()) <= LONGEST_DEMO
    assert "risk promised" in demo and "risk realised" in demo


def test_the_flow_has_six_lines():
    assert re.findall(r"^(\d)\. ", FIRST, re.MULTILINE) == list("123456")


def test_the_two_commands_are_scripts_that_can_be_run():
    for name in ("demo", "test"):
        script = ROOT / "scripts" / name
        assert script.stat().st_mode & 0o111
        subprocess.run([shutil.which("bash") or "bash", "-n", str(script)], check=True)


def test_every_link_leads_somewhere():
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", README)
    assert len(targets) > 8
    for target in targets:
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_the_table_lists_every_command_and_no_other():
    assert re.findall(r"^\| `insource ([\w-]+)` \|", README, re.MULTILINE) == list(COMMANDS)


def test_every_command_that_a_page_names_exists():
    for path in [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]:
        for name in re.findall(r"(?:`|\$ )insource ([a-z][\w-]*)", path.read_text("utf-8")):
            assert name in COMMANDS, f"{path.name}: insource {name}"


def test_the_licence_is_the_one_that_ships():
    assert "Apache-2.0" in README.split("## Licence")[1]
    assert "Apache License" in (ROOT / "LICENSE").read_text("utf-8")


def test_no_page_holds_a_path_of_somebodys_machine():
    for path in [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]:
        assert not re.search(r"/(?:tmp|work|home|root|Users)/\w", path.read_text("utf-8")), path.name
