"""The one way out, and that there is no other."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest

import insource
from insource.backends.scripted import Scripted
from insource.config import Config, GatewayConfig, PolicyConfig, StoreConfig, UpstreamConfig
from insource.errors import ConfigError, RequestError
from insource.policy.egress import Egress, open_upstreams
from insource.types import Message, Request

SOURCES = Path(insource.__file__).parent
ALLOWED = Path("policy/egress.py")


def config(**more):
    upstream = replace(UpstreamConfig("main", "http://127.0.0.1:1/v1"), **more)
    gateway = GatewayConfig("127.0.0.1", 0, 1, 1, 1.0, 1.0, "main")
    return Config(gateway, StoreConfig(Path("."), 30), {"main": upstream}, {}, PolicyConfig(), {}, {})


def constructions(source):
    """Return the lines that call Upstream or a client session, under whatever name they were imported."""
    tree = ast.parse(source)
    names = {"Upstream", "ClientSession"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom | ast.Import):
            names |= {alias.asname for alias in node.names if alias.asname and alias.name.split(".")[-1] in names}
    called = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [node.lineno for node in called if getattr(node.func, "attr", getattr(node.func, "id", "")) in names]


def test_nothing_else_constructs_an_upstream():
    found = {
        path.relative_to(SOURCES): lines
        for path in SOURCES.rglob("*.py")
        if (lines := constructions(path.read_text(encoding="utf-8")))
    }
    assert set(found) == {ALLOWED, Path("backends/upstream.py")}  # the latter holds the session it is made of


@pytest.mark.parametrize(
    "source",
    [
        "from insource.backends.upstream import Upstream\nUpstream('u', 'http://x')",
        "from insource.backends.upstream import Upstream as U\nU('u', 'http://x')",
        "from insource.backends import upstream\nupstream.Upstream('u', 'http://x')",
        "import aiohttp\naiohttp.ClientSession()",
    ],
)
def test_the_search_finds_a_construction(source):
    assert constructions(source) == [2]


async def test_upstreams_come_behind_their_egress():
    opened = open_upstreams(config(), {})
    assert {name: type(upstream) for name, upstream in opened.items()} == {"main": Egress}
    assert opened["main"].info.name == "main"
    assert not (await opened["main"].health()).ready


def test_a_key_that_is_not_set_is_said_by_name():
    with pytest.raises(ConfigError, match="environment variable MY_KEY is not set; upstreams.main.api_key_env"):
        open_upstreams(config(api_key_env="MY_KEY"), {})
    assert open_upstreams(config(api_key_env="MY_KEY"), {"MY_KEY": "k"})


@pytest.mark.parametrize(
    "path", ["/admin", "/v1/../admin", "/v1/%2e%2E/admin", "/v1/a%2f..%2f..%2fb", "/v1/..\\b", "/v1"]
)
async def test_a_path_outside_the_api_is_refused(path):
    async with Egress(Scripted({"x": "y"})) as egress:
        with pytest.raises(RequestError, match="one under /v1/ was expected"):
            await egress.answer(Request("r", (Message("user", "x"),), path=path))
        assert (await egress.answer(Request("r", (Message("user", "x"),), path="/v1/a..b?c=../d"))).content == "y"
