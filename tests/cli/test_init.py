"""`insource init`."""

import re
import tomllib
from decimal import Decimal

import pytest

from insource.cli.init import TEMPLATE
from insource.config import SETTINGS, load


def test_a_first_file_loads_and_names_an_upstream(run, tmp_path):
    done = run("init")
    assert done.code == 0
    assert "wrote insource.toml" in done.out
    assert "insource serve" in done.out
    config = load(tmp_path / "insource.toml", env={})
    assert config.default_upstream.base_url == "https://api.openai.com/v1"
    assert config.default_upstream.price_in is None
    assert not config.tasks


def test_the_lines_that_are_commented_out_are_valid_too(tmp_path):
    """Whoever takes the # away gets what the comment says."""
    opened = re.sub(r"^# (?=\[|\w+ = )", "", TEMPLATE, flags=re.MULTILINE)
    (tmp_path / "insource.toml").write_text(opened)
    config = load(tmp_path / "insource.toml", env={})
    assert config.upstreams["openai"].api_key_env == "OPENAI_API_KEY"
    assert config.upstreams["openai"].price_out == Decimal("0.60")
    assert config.tasks["example"].guard == {"billing": 0.1}
    assert len(config.tasks["example"].match.system_prompts) == 1
    assert config.home == tmp_path / "state"


def test_the_template_shows_the_defaults():
    """A default that is shown and no longer true would mislead."""
    defaults = {setting.key: setting.default for setting in SETTINGS}
    shown = tomllib.loads(re.sub(r"^# (?=\[|\w+ = )", "", TEMPLATE, flags=re.MULTILINE))
    for key, value in shown["gateway"].items():
        assert defaults[f"gateway.{key}"] == value
    assert shown["store"]["retention_days"] == defaults["store.retention_days"]
    assert shown["tasks"]["example"]["retention_days"] == shown["store"]["retention_days"]
    for key in ("target_risk", "confidence_level", "audit_rate", "content"):
        assert shown["tasks"]["example"][key] == defaults[f"tasks.NAME.{key}"]


def test_a_file_that_exists_is_left_alone(run, tmp_path):
    (tmp_path / "insource.toml").write_text("# mine\n")
    done = run("init")
    assert done.code == 2
    assert done.err.startswith("error: insource.toml exists; nothing was changed.")
    assert (tmp_path / "insource.toml").read_text() == "# mine\n"


def test_force_keeps_every_older_file(run, tmp_path):
    (tmp_path / "insource.toml").write_text("# mine\n")
    assert "kept the old file as insource.toml.bak" in run("init", "--force").out
    assert run("init", "--force").code == 0
    assert (tmp_path / "insource.toml.bak").read_text() == "# mine\n"
    assert (tmp_path / "insource.toml.bak2").read_text() == TEMPLATE
    assert (tmp_path / "insource.toml").read_text() == TEMPLATE


def test_config_says_where(run, tmp_path):
    assert run("--config", "other.toml", "init").code == 0
    assert (tmp_path / "other.toml").exists()
    assert not (tmp_path / "insource.toml").exists()


@pytest.mark.parametrize("where", ["nosuch/insource.toml", "."])
def test_a_place_that_cannot_be_written_is_told(run, where):
    done = run("--config", where, "init", "--force")
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert "internal" not in done.err
