"""Opening what commands need."""

import click
import pytest

from insource.backends.onnx import Trunks
from insource.cli.choices import Choices
from insource.cli.opening import Opener, configuration, find_version, open_registry, open_version, split_name
from insource.config import load
from insource.errors import ArtifactDamaged, UnknownTask, UnknownVersion, UserError
from insource.types import SpecialistVersion


@pytest.fixture
def config(home):
    return load(env={}, flags={"store.home": home})


def silent(title):
    return lambda done, total: None


@pytest.mark.parametrize(("text", "found"), [("x", ("x", None)), ("x@3", ("x", 3)), ("x.y-z@12", ("x.y-z", 12)),
                                             ("x@v3", ("x", 3))])  # fmt: skip
def test_a_name_is_split(text, found):
    assert split_name(text) == found


@pytest.mark.parametrize("text", ["", "@3", "x@", "x@0", "x@-1", "x@1.5", "x@three", "x@3@4", "x@²"])
def test_what_names_no_version_is_refused(text):
    with pytest.raises(UserError, match=r"NAME or NAME@V was expected"):
        split_name(text)


def test_the_global_options_reach_the_configuration(tmp_path):
    (tmp_path / "other.toml").write_text("[gateway]\nport = 9000\n")
    ctx = click.Context(click.Command("x"), obj=Choices(tmp_path / "other.toml", tmp_path / "there"))
    found = configuration(ctx, {"gateway.host": "::1"})
    assert (found.gateway.port, found.gateway.host, found.home) == (9000, "::1", tmp_path / "there")
    assert found.origins["store.home"] == "flag"


def test_a_command_run_alone_has_the_defaults(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert configuration(click.Context(click.Command("x"))).gateway.port == 8600


def test_a_name_alone_is_the_active_version_else_the_newest(config, registered, run):
    registered()
    registered()
    with open_registry(config) as registry:
        assert find_version(registry, "triage").version == 2
    assert run("promote", "triage@1").code == 0
    with open_registry(config) as registry:
        assert find_version(registry, "triage").version == 1
        assert find_version(registry, "triage@2").version == 2
        with pytest.raises(UnknownVersion):
            find_version(registry, "triage@3")
        with pytest.raises(UnknownTask):
            find_version(registry, "other")


def test_an_opened_version_answers(config, registered):
    registered()
    version, specialist = open_version(config, "triage", silent)
    assert isinstance(version, SpecialistVersion)
    assert specialist.answer_text("my card was stolen")[0] == "card"
    assert specialist.info.name == "specialist:triage@1"
    assert specialist.info.digest == version.digest


def test_opening_is_told(config, registered):
    registered()
    told = []
    open_version(config, "triage@1", lambda title: lambda done, total: told.append((title, done, total)))
    assert told == [("opening triage@1", 0, None), ("opening triage@1", 1, 1)]


def test_a_damaged_artifact_is_not_opened(config, registered, damage):
    registered()
    damage()
    with pytest.raises(ArtifactDamaged):
        open_version(config, "triage", silent)


def test_one_opener_shares_its_trunks(config):
    opener = Opener(config)
    assert isinstance(opener._trunks, Trunks)
    with pytest.raises(ArtifactDamaged):
        opener._trunks.get("0" * 64)
