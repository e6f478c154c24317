"""insource in Python: load, ask, train and backtest, as a notebook would."""

import asyncio
import json
from decimal import Decimal

import pytest

import insource
from insource.errors import ArtifactDamaged, DataError, UnknownTask, UnknownVersion, UserError
from insource.inputs import MAX_CHARACTERS
from insource.traffic import read
from insource.types import Task


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def path(write_traffic, tickets):
    return write_traffic(tickets(300))


@pytest.fixture
def loaded(home, path):
    return insource.train(path, "triage", home=home, family="linear")


def test_train_gives_what_load_gives(loaded, home):
    assert repr(loaded) == "<insource specialist triage@1, linear>"
    for name in ("triage", "triage@1"):
        again = insource.load(name, home=home)
        assert again.version == loaded.version and again("my card was stolen") == loaded("my card was stolen")


def test_a_prediction(loaded):
    found = loaded("my card was stolen")
    assert (str(found), found.answer, found.label, found.accepted) == ("card", "card", "card", True)
    assert 0.0 <= found.score <= 1.0
    assert loaded.many(["my card was stolen", "refund"]) == [found, loaded("refund")]
    assert loaded.many([]) == []
    assert loaded.explain("my card was stolen").label == "card"


def test_only_what_clears_the_threshold_is_accepted(home, path):
    free = insource.train(path, "triage", home=home, family="linear", method="none")
    assert not free("my card was stolen").accepted
    strict = insource.train(path, Task("triage", target_risk=0.001), home=home, family="linear")
    assert not strict("my card was stolen").accepted and strict.version.version == 2


def test_a_blank_text_is_answered_but_never_accepted(loaded):
    """The gateway sends it upstream, with the reason no_input."""
    assert [found.accepted for found in loaded.many(["", " \n", "my card was stolen"])] == [False, False, True]


def test_a_text_is_seen_as_the_gateway_sees_it(home, path):
    seen = insource.train(path, Task("triage", messages="all"), home=home, family="linear")
    plain = insource.train(path, "triage", home=home, family="linear")
    long = "card " * 10_000
    assert plain(long) == plain(long[:MAX_CHARACTERS])
    assert seen._specialist.answer_text("user: refund") == (seen("refund").label, seen("refund").score)


def test_backtest_gives_the_command_s_figures_inside_a_running_loop_too(home, path, tmp_path):
    options = {"home": home, "family": "linear", "warmup": 150}
    found = insource.backtest(path, "triage", **options)
    assert found["task"] == "triage" and found["requests"] == 300 and json.dumps(found)

    async def notebook():
        return insource.backtest(read(path), Task("triage"), **options)

    assert {**asyncio.run(notebook()), "seconds": 0} == {**found, "seconds": 0}
    with pytest.raises(DataError, match="shadow period of 300"):
        insource.backtest(path, home=home, family="linear", warmup=300)


def test_compare_gives_the_command_s_figures_inside_a_running_loop_too(home, path, tiny_base):
    async def notebook():
        options = {"base": str(tiny_base), "price_in": Decimal("2.5"), "price_out": Decimal(10)}
        return insource.compare(path, Task("triage", target_risk=0.2), home=home, **options)

    found = asyncio.run(notebook())
    assert json.loads(json.dumps(found, allow_nan=False)) == found and found["time_budget"] == 600
    chosen = found["recommendation"]
    assert insource.load(f"triage@{chosen['version']}", home=home).version.lineage["compared"] == chosen["name"]
    assert Decimal(found["upstream"]["cost_per_thousand"]) > 0


def test_what_it_refuses(loaded, home):
    with pytest.raises(UnknownTask, match="Task 'other' has no version here"):
        insource.load("other", home=home)
    with pytest.raises(UnknownVersion, match="has no version 7"):
        insource.load("triage@7", home=home)
    for name in ("triage@", "triage@x", "triage@1.5"):
        with pytest.raises(UserError, match="names no version; NAME or NAME@V was expected"):
            insource.load(name, home=home)


def test_the_active_version_is_loaded_else_the_newest(loaded, home, path):
    from datetime import UTC, datetime

    from insource.store.registry import Registry

    insource.train(path, "triage", home=home, family="linear", seed=1)
    assert insource.load("triage", home=home).version.version == 2
    with Registry.open(home) as registry:
        registry.promote("triage", 1, "ada", "a test", datetime.now(UTC))
    assert insource.load("triage", home=home).version.version == 1


def test_a_damaged_artifact_is_never_loaded(loaded, home):
    path = home / "artifacts" / loaded.version.digest / "linear.safetensors"
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactDamaged, match="linear.safetensors does not match its digest: expected .* found"):
        insource.load("triage", home=home)
    insource.train(home.parent / "may.jsonl", "triage", home=home, family="linear")
    assert insource.load("triage@1", home=home)("my card was stolen").answer == "card", "the same bytes repair it"


def test_an_encoder(home, path, tiny_base):
    found = insource.train(path, "triage", home=home, family="encoder-frozen", base=str(tiny_base))
    assert found("my card was stolen").label in ("card", "refund", "transfer")
    assert found.explain("my card was stolen").evidence[0].kind == "training row"
