"""The one way out: what may pass, where it goes, and that there is no other."""

import ast
import asyncio
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import pytest

import insource
from insource.backends.scripted import Scripted
from insource.config import Allowed, Config, GatewayConfig, PolicyConfig, StoreConfig, UpstreamConfig
from insource.errors import ConfigError, InsourceError, KeptLocal, RequestError, UpstreamTimeout, UpstreamUnreachable
from insource.policy.egress import Egress, Upstreams, open_upstreams
from insource.types import Message, Request, Sensitivity

SOURCES = Path(insource.__file__).parent
ALLOWED = Path("policy/egress.py")
ITSELF = Path("backends/upstream.py")  # holds the connections that it is made of
REQUEST = Request("r", (Message("user", "x"),), "m", sensitivity=Sensitivity.PUBLIC)


def config(*upstreams, policy=None, **more):
    upstreams = upstreams or (replace(UpstreamConfig("main", "http://127.0.0.1:1/v1"), **more),)
    gateway = GatewayConfig("127.0.0.1", 0, 1, 1, 1.0, 1.0, ((upstreams[0].name, 1.0),))
    named = {upstream.name: upstream for upstream in upstreams}
    return Config(gateway, StoreConfig(Path("."), 30), named, {}, policy or PolicyConfig(), {}, {})


OURS = {"Upstream", "Egress"}
SOCKETS = {"ClientSession", "AsyncClient", "open_connection", "create_connection"}


def constructions(source, wanted=frozenset(OURS | SOCKETS)):
    """Return the lines that call one of the names, under whatever name it was imported."""
    names, (renamed, called) = set(wanted), read(source)
    for name, other in renamed:
        names |= {other} if name in names else set()
    return [line for name, line in called if name in names]


@cache
def read(source):
    """Return what a source imports under another name, and what it calls on which line."""
    nodes = list(ast.walk(ast.parse(source)))
    imported = [alias for node in nodes if isinstance(node, ast.ImportFrom | ast.Import) for alias in node.names]
    called = [node for node in nodes if isinstance(node, ast.Call)]
    return (
        [(alias.name.split(".")[-1], alias.asname) for alias in imported if alias.asname],
        [(getattr(node.func, "attr", getattr(node.func, "id", "")), node.lineno) for node in called],
    )


def constructing(wanted):
    sources = {path.relative_to(SOURCES): path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.py")}
    return {path for path, source in sources.items() if constructions(source, wanted)}


def test_nothing_else_constructs_an_upstream():
    assert constructing(OURS) == {ALLOWED}


def test_nothing_else_that_sees_requests_opens_a_connection():
    """The gateway, the store and the command line may: to the house's own processes, over local sockets."""
    outside = {path for path in constructing(SOCKETS) if path.parts[0] not in ("gateway", "store", "cli")}
    assert outside <= {ITSELF, *(path for path in outside if path.match("backends/http1*.py"))}


@pytest.mark.parametrize(
    "source",
    [
        "from insource.backends.upstream import Upstream\nUpstream('u', 'http://x')",
        "from insource.backends.upstream import Upstream as U\nU('u', 'http://x')",
        "from insource.backends import upstream\nupstream.Upstream('u', 'http://x')",
        "from insource.policy.egress import Egress as E\nE(None, frozenset())",
        "import asyncio\nasyncio.open_connection('x', 80)",
        "import aiohttp\naiohttp.ClientSession()",
    ],
)
def test_the_search_finds_a_construction(source):
    assert constructions(source) == [2]


async def test_upstreams_come_behind_their_egress():
    opened = open_upstreams(config(), {})
    assert {name: type(upstream) for name, upstream in opened.items()} == {"main": Egress}
    assert opened["main"].info.name == "main" and len(opened) == 1
    assert not (await opened["main"].health()).ready
    async with opened as same:
        assert same is opened and (await opened["main"].health()).ready
    assert not (await opened["main"].health()).ready
    async with opened["main"]:
        assert (await opened["main"].health()).ready


def test_a_key_that_is_not_set_is_said_by_name():
    with pytest.raises(ConfigError, match="environment variable MY_KEY is not set; upstreams.main.api_key_env"):
        open_upstreams(config(api_key_env="MY_KEY"), {})
    assert open_upstreams(config(api_key_env="MY_KEY", key_header="x-api-key"), {"MY_KEY": "k"})


async def test_opening_is_all_or_nothing(stub):
    class Closed(stub):
        async def __aenter__(self):
            raise OSError("no file left")

    first, second = stub("one"), Closed("two")
    upstreams = Upstreams(config(*map(named, ("one", "two"))), {"one": first, "two": second})
    with pytest.raises(OSError, match="no file left"):
        await upstreams.__aenter__()
    assert first.opened == 0


def named(name, **more):
    return UpstreamConfig(name, "http://127.0.0.1:1", **more)


@pytest.mark.parametrize(
    "path",
    ["/admin", "/v1/../admin", "/v1/%252e%252E/admin", "/v1/a%2f..%2f..%2fb", "/v1/..\\b", "/v1", "http://x/v1/"],
)
async def test_a_path_outside_the_api_is_refused(every, path):
    async with Egress(Scripted({"x": "y"}), every) as egress:
        with pytest.raises(RequestError, match="one under /v1/ was expected"):
            await egress.answer(replace(REQUEST, path=path))
        with pytest.raises(RequestError, match="The method 'CONNECT' was used"):
            await egress.answer(replace(REQUEST, method="CONNECT"))
        assert (await egress.answer(replace(REQUEST, path="/v1/a..b?c=../d"))).content == "y"
        assert [answer.content for answer in await egress.answer_many([REQUEST, REQUEST])] == ["y", "y"]


# Sensitivity x upstream x path out, against what the rules say; and the same with the guard broken.

HOUSE = named("house", jurisdiction="house", model="local", retries=1)
PARIS = named("paris", jurisdiction="EU", model="le-grand", retries=1)
BOSTON = named("boston", jurisdiction="US", model="big", retries=1)
POLICY = PolicyConfig(internal=Allowed((), ("EU", "house")), restricted=Allowed(("house",)))
MAY = {
    Sensitivity.PUBLIC: {"house", "paris", "boston"},
    Sensitivity.INTERNAL: {"house", "paris"},
    Sensitivity.RESTRICTED: {"house"},
    None: {"house"},
}


async def plainly(upstreams, request):
    for egress in upstreams.values():
        await quietly(egress.answer(request))


async def in_batches(upstreams, request):
    for egress in upstreams.values():
        await quietly(egress.answer_many([request, request]))


async def on_failure(upstreams, request):
    for first in upstreams:
        rest = [(name, 0.0) for name in upstreams if name != first]
        for _ in range(3):
            await quietly(upstreams.chosen([(first, 1.0), *rest]).answer(request))


async def by_weight(upstreams, request):
    for _ in range(20):
        await quietly(upstreams.chosen([(name, 1.0) for name in upstreams]).answer(request))


async def alone(upstreams, request):
    """As a tier, an audit sample's reference or a teacher is asked."""
    for name in upstreams:
        await quietly(upstreams.chosen([(name, 1.0)], "its-own").answer_many([request]))


async def quietly(job):
    try:
        await job
    except InsourceError as error:
        assert "canary" not in f"{error!r} {error} {error.hint}"


WAYS = [plainly, in_batches, on_failure, by_weight, alone]
SCRIPTS = {"well": [200], "failing": [UpstreamUnreachable("gone")], "busy": [503], "mixed": [500, 200, 429, 200]}


async def who_saw(stub, egress_of, way, script, sensitivity, model):
    """Send a canary one way out and return which upstreams saw it."""
    stubs = {name: stub(name, *SCRIPTS[script]) for name in ("house", "paris", "boston")}
    upstreams = Upstreams(config(HOUSE, PARIS, BOSTON, policy=POLICY), stubs)
    upstreams._egresses |= {name: egress_of(each) for name, each in upstreams.items()}
    request = Request("r", (Message("user", "canary"),), model, {"canary": 1}, {"x": "canary"}, b'{"canary":"canary"}',
                      sensitivity=sensitivity)  # fmt: skip
    await way(upstreams, request)
    return {name for name, each in stubs.items() if each.seen}


class Open(Egress):
    """The guard broken: everything may pass."""

    def permits(self, request):
        return True


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_no_sensitivity_reaches_a_forbidden_upstream_on_any_way(stub, way, script):
    for sensitivity, model in product(MAY, ("m", "task:t")):
        seen = await who_saw(stub, lambda egress: egress, way, script, sensitivity, model)
        assert seen <= MAY[sensitivity], sensitivity
        assert seen, "a control: what may go is sent"


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_the_same_check_finds_an_open_door(stub, way):
    def opened(egress):
        return Open(egress._upstream, frozenset())

    seen = await who_saw(stub, opened, way, "failing", Sensitivity.RESTRICTED, "m")
    assert not seen <= MAY[Sensitivity.RESTRICTED]


async def test_a_failing_enclave_has_no_fallback_outside(stub):
    """What went wrong in QuillCode (#1549): a pinned way met a failure and went on, silently, in public."""
    stubs = {"house": stub("house", 500), "boston": stub("boston")}
    upstreams = Upstreams(config(HOUSE, BOSTON, policy=POLICY), stubs)
    chosen = upstreams.chosen((("house", 1.0), ("boston", 0.0)))
    answer = await chosen.answer(replace(REQUEST, sensitivity=Sensitivity.RESTRICTED))
    assert (answer.relay.status, answer.served_by, stubs["boston"].seen) == (500, "house", [])
    with pytest.raises(KeptLocal, match="to 'boston'; \\[policy.restricted\\]"):
        await upstreams["boston"].answer(replace(REQUEST, sensitivity=Sensitivity.RESTRICTED))
    assert (await chosen.answer(REQUEST)).served_by == "boston"  # what may go there does


async def test_breakers_and_budget_are_shared_by_all_who_ask(stub):
    stubs = {"one": stub("one", UpstreamUnreachable("gone")), "two": stub("two")}
    upstreams = Upstreams(config(named("one", retries=0), named("two")), stubs)
    for _ in range(5):
        await asyncio.gather(upstreams.chosen([("one", 1.0)]).answer(REQUEST), return_exceptions=True)
    assert upstreams.states() == {"one": "open", "two": "closed"}
    assert (await upstreams.chosen([("one", 1.0), ("two", 0.0)]).answer(REQUEST)).served_by == "two"
    assert len(stubs["one"].seen) == 5
    assert upstreams.chosen(()) is None


async def test_a_tiers_deadline_is_heard_of_by_its_breaker(stub):
    """A caller's own deadline would cancel the attempt, and the breaker never hear that it was too slow."""

    async def hangs(request):
        await asyncio.Event().wait()

    stubs = {"one": stub("one", hangs)}
    upstreams = Upstreams(config(named("one", retries=0, breaker_failures=2)), stubs)
    tier = upstreams.chosen([("one", 1.0)], deadline=0.001)
    for _ in range(2):
        with pytest.raises(UpstreamTimeout):
            await tier.answer(REQUEST)
    assert upstreams.states() == {"one": "open"}


async def test_a_deadline_counts_though_the_caller_gives_up_at_the_same_moment(stub):
    async def hangs(request):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            asyncio.current_task().cancel()
            raise

    stubs = {"one": stub("one", hangs)}
    upstreams = Upstreams(config(named("one", retries=0, breaker_failures=1)), stubs)
    job = asyncio.ensure_future(upstreams.chosen([("one", 1.0)], deadline=0.001).answer(REQUEST))
    (left,) = await asyncio.gather(job, return_exceptions=True)
    assert isinstance(left, asyncio.CancelledError) and upstreams.states() == {"one": "open"}


async def test_control_a_callers_deadline_opens_no_breaker(stub):
    async def hangs(request):
        await asyncio.Event().wait()

    stubs = {"one": stub("one", hangs)}
    upstreams = Upstreams(config(named("one", retries=0, breaker_failures=2)), stubs)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(upstreams.chosen([("one", 1.0)]).answer(REQUEST), 0.001)
    assert upstreams.states() == {"one": "closed"}


async def test_an_upstream_is_asked_for_the_tasks_model_or_its_own_or_another(stub):
    stubs = {"one": stub("one"), "two": stub("two")}
    upstreams = Upstreams(config(named("one", model="its-own"), named("two")), stubs)
    request = replace(REQUEST, model="task:t")
    for name, model, otherwise in product(("one", "two"), (None, "the-tasks"), (None, "matched")):
        await quietly(upstreams.chosen([(name, 1.0)], model, otherwise).answer(request))
    assert [seen.model for seen in stubs["one"].seen] == ["its-own", "its-own", "the-tasks", "the-tasks"]
    assert [seen.model for seen in stubs["two"].seen] == ["matched", "the-tasks", "the-tasks"]


# Nobody steers where a request goes (CVE-2024-6587): real sockets, one on the list and one off it.


async def listener(seen):
    async def serve(reader, writer):
        seen.append(await reader.read(65_536))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


FIELDS = ["api_base", "base_url", "url", "endpoint", "proxy", "host", "upstream", "fallbacks", "model", "api_key",
          "user", "webhook", "callback", "organization", "deployment", "custom_llm_provider"]  # fmt: skip
HEADERS = ["host", "x-forwarded-host", "forwarded", "x-original-url", "x-rewrite-url", "x-insource-upstream",
           "location", "x-api-base", "proxy", "referer", "origin", "x-http-method-override", "via"]  # fmt: skip


async def test_no_field_header_or_path_names_a_destination():
    listed, other = [], []
    (server, address), (trap, elsewhere) = await listener(listed), await listener(other)
    forms = [f"http://{elsewhere}/v1", elsewhere, f"//{elsewhere}/", f"http://{address}@{elsewhere}/v1"]
    requests = [replace(REQUEST, fields={name: form}, body=f'{{"{name}":"{form}"}}'.encode(), model=form)
                for name, form in product(FIELDS, forms)]  # fmt: skip
    requests += [replace(REQUEST, headers={name: form}) for name, form in product(HEADERS, forms)]
    requests += [replace(REQUEST, headers={"x": f"y\r\nHost: {elsewhere}"}),
                 replace(REQUEST, method=f"GET http://{elsewhere}/ HTTP/1.1\r\n\r\nGET")]  # fmt: skip
    before = ("", "/", "/v1/", "/v1/x?to=", "@", "/v1@")
    requests += [replace(REQUEST, path="".join(parts)) for parts in product(before, forms, ("", "/v1/"))]
    main = UpstreamConfig("main", f"http://{address}", retries=0)
    sent = 0
    async with server, trap, open_upstreams(config(main), {}) as upstreams:
        for request in requests:
            try:
                answer = await upstreams.chosen([("main", 1.0)]).answer(request)
                await answer.relay.close()
                sent += 1
            except RequestError:
                pass
    assert other == [] and len(listed) == sent > len(FIELDS) * len(forms)
    assert all(b"\r\nhost: " + address.encode() in head.lower() for head in listed)


@pytest.mark.parametrize(("share", "most"), [(0.0, 20), (0.2, 20 + 4 + 3), (100.0, 40)])
async def test_a_silent_repeat_takes_a_token_of_the_budget(share, most):
    """A kept connection that ends without a byte is a race, or a server that is down; the budget tells them apart."""
    arrived = []

    async def serve(reader, writer):
        for reply in (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b""):
            await reader.readuntil(b"\r\n\r\n")
            arrived.append(reply)
            writer.write(reply)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        found = config(base_url=f"http://127.0.0.1:{port}/v1", retries=0, breaker_failures=1_000)
        found = replace(found, gateway=replace(found.gateway, retry_budget=share))
        async with open_upstreams(found, {}) as upstreams:
            failover = upstreams.chosen((("main", 1.0),))
            counted = 0
            for _ in range(20):
                with suppress(UpstreamUnreachable):
                    counted += (await failover.answer(REQUEST)).attempts
    assert 20 <= len(arrived) <= most
    assert (len(arrived) == 39) is (share == 100.0), "a control: without the budget nearly every request goes out twice"
    assert counted == len(arrived) or share < 100
