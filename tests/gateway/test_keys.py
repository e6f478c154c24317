"""Who may ask: no key, a wrong one, one out of scope; what an upstream and the ledger see of it."""

from datetime import UTC, datetime, timedelta

import pytest

from insource.errors import ConfigError, StoreError
from insource.gateway.access import Access, Route, check_routes
from insource.gateway.app import Application
from insource.gateway.keyring import Keyring, presented, without_ours
from insource.store.keys import new_secret
from insource.types import Key, Sensitivity, Task

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
OTHER = Task("other", audit_rate=0.0)


def made(house, **changes):
    key, secret = house.registry.create_key(Key("", "app", datetime.now(UTC), "ada", **changes), "a test")
    return key, {"authorization": f"Bearer {secret}"}


async def status(client, path, headers=None, method="POST", **body):
    async with client.request(method, path, headers=headers, **body) as reply:
        return reply.status, await reply.json(content_type=None)


async def test_without_any_key_the_gateway_is_open_and_keys_are_made_at_the_command_line(house, chat):
    house.start()
    async with house.client() as client:
        assert (await status(client, "/v1/chat/completions", json=chat("hello")))[0] == 200
        told, body = await status(client, "/v1/insource/keys", json={"name": "x"})
    assert (
        told == 403 and body["error"]["code"] == "out_of_scope" and "insource keys create" in body["error"]["message"]
    )


async def test_with_a_key_made_it_is_needed_everywhere_but_on_public_routes(house, chat):
    house.start()
    _, bearer = made(house)
    house.registry.revoke_key(made(house)[0].id, "ada", "x", NOON)
    house.gateway.keys._looked = float("-inf")
    headers = ({}, {"authorization": "Bearer nonsense"}, {"authorization": bearer["authorization"][:-1] + "?"},
               {"authorization": f"Bearer {new_secret()[1]}"}, {"x-api-key": "sk-other"},
               {"authorization": bearer["authorization"].replace("Bearer", "Basic")})  # fmt: skip
    async with house.client() as client:
        messages = set()
        for wrong in headers:
            told, body = await status(client, "/v1/chat/completions", wrong, json=chat("hello"))
            assert (told, body["error"]["code"]) == (401, "invalid_key")
            messages.add(body["error"]["message"])
        assert len(messages) == 1  # which part was wrong is not said
        for path in ("/v1/models", "/v1/files", "/v1/insource/tasks", "/v1/insource/keys", "/metrics"):
            assert (await status(client, path, method="GET"))[0] == 401
        for path in ("/healthz", "/readyz"):
            assert (await status(client, path, method="GET"))[0] == 200
        told, body = await status(client, "/v1/messages", json=chat("hello"))
        assert told == 401 and body["error"]["type"] == "authentication_error"
        assert not house.raw.received
        assert (await status(client, "/v1/chat/completions", bearer, json=chat("hello")))[0] == 200
        secret = {"x-api-key": bearer["authorization"].split()[1]}
        assert (await status(client, "/v1/messages", secret, json=chat("hello")))[0] == 200


async def test_the_upstream_never_sees_our_key_and_still_gets_the_clients_own(house, chat):
    house.start()
    _, bearer = made(house)
    secret = bearer["authorization"].split()[1]
    ours = {"x-api-key": secret, "Authorization": "Bearer sk-of-the-upstream", "api-key": secret,
            "x-goog-api-key": secret, "cookie": f"session={secret}"}  # fmt: skip
    async with house.client() as client:
        assert (await status(client, "/v1/chat/completions", ours, json=chat("hello")))[0] == 200
    (received,) = house.raw.received
    told = dict(received.headers)
    assert told[b"authorization"] == b"Bearer sk-of-the-upstream"
    assert secret.encode() not in b"".join(name + value for name, value in received.headers) + received.body


async def test_decisions_carry_the_keys_id(house, chat):
    house.start()
    key, bearer = made(house)
    async with house.client() as client:
        await status(client, "/v1/chat/completions", bearer, json=chat("hello"))
    house.stop()
    with house.reader() as reader:
        assert [row.decision.key for row in reader.rows()] == [key.id]


async def test_a_key_is_held_to_its_tasks(house, chat):
    house.start(tasks=(Task("triage", audit_rate=0.0), OTHER))
    _, bearer = made(house, tasks=("triage",))
    async with house.client() as client:
        asked = {model: (await status(client, "/v1/chat/completions", bearer, json=chat("x", model, system=None)))
                 for model in ("task:triage", "task:other", "gpt-4o")}  # fmt: skip
        assert {model: told for model, (told, _) in asked.items()} == {
            "task:triage": 200, "task:other": 403, "gpt-4o": 403
        }  # fmt: skip
        assert asked["gpt-4o"][1]["error"]["code"] == "out_of_scope"
        _, listed = await status(client, "/v1/models", bearer, "GET")
        assert [card["id"] for card in listed["data"]] == ["task:triage"]
        _, tasks = await status(client, "/v1/insource/tasks", bearer, "GET")
        assert [task["name"] for task in tasks["data"]] == ["triage"]
        assert (await status(client, "/v1/insource/tasks/other", bearer, "GET"))[0] == 404
    assert len(house.raw.received) == 1


@pytest.mark.parametrize("scope", [{"upstreams": ("elsewhere",)}, {"sensitivity": Sensitivity.PUBLIC}])
async def test_what_a_key_may_not_send_stays(house, chat, scope):
    house.start()
    _, bearer = made(house, **scope)
    async with house.client() as client:
        told, body = await status(client, "/v1/chat/completions", bearer, json=chat("hello"))
    assert (told, body["error"]["code"]) == (403, "kept_local") and not house.raw.received


async def test_keys_are_administered_by_administrators_only(house):
    house.start()
    admin, boss = made(house, admin=True)
    _, plain = made(house)
    wanted = {"name": "new", "tasks": ["triage"], "rate": "5/min", "why": "asked for"}
    async with house.client() as client:
        for method, path in (("GET", ""), ("POST", ""), ("DELETE", f"/{admin.id}")):
            told, body = await status(client, "/v1/insource/keys" + path, plain, method, json=wanted)
            assert (told, body["error"]["code"]) == (403, "out_of_scope")
        assert (await status(client, "/metrics", plain, "GET"))[0] == 403
        async with client.get("/metrics", headers=boss) as reply:
            assert reply.status == 200
        _, new = await status(client, "/v1/insource/keys", boss, json=wanted)
        assert new["tasks"] == ["triage"] and new["created_by"] == f"key {admin.id}"
        assert (await status(client, "/v1/insource/keys", boss, json={**wanted, "tasks": ["none"]}))[0] == 400
        assert (await status(client, "/v1/insource/keys", boss, json={**wanted, "scope": "all"}))[0] == 400
        _, listed = await status(client, "/v1/insource/keys", boss, "GET")
        assert len(listed["data"]) == 3 and new["key"] not in str(listed)
        told, body = await status(client, f"/v1/insource/keys/{new['id']}", boss, "DELETE")
        assert told == 200 and body["state"] == "revoked" and body["changed"]
        assert (await status(client, "/v1/insource/keys/nobody12", boss, "DELETE"))[0] == 404
        house.gateway.keys._looked = float("-inf")
        used = {"authorization": f"Bearer {new['key']}"}
        assert (await status(client, "/v1/models", used, "GET"))[0] == 401
    (act,) = [act for act in house.registry.acts(new["id"]) if act.what == "create key"]
    assert (act.who, act.detail) == (f"key {admin.id}", "new: asked for")


def test_a_route_that_says_nothing_stops_the_start(house):
    app = Application(None)
    check_routes(app.routes())
    planted = Application(None)
    planted._routes = {**planted._routes, ("GET", "/v1/planted"): Route(app._anything.serve)}
    with pytest.raises(ConfigError, match="GET /v1/planted does not say who may call it"):
        check_routes(planted.routes())
    with pytest.raises(ConfigError, match="planted"):
        house.stack.enter_context(_served(house, planted))


def _served(house, app):
    from insource.gateway.server import ServerThread

    return ServerThread(app, drain=1)


def test_every_route_says_who_may_call_it():
    told = {name: route.access for name, route in Application(None).routes()}
    assert {name for name, access in told.items() if access is Access.PUBLIC} == {"GET /healthz", "GET /readyz"}
    assert {name for name, access in told.items() if access is Access.ADMIN} == {
        "GET /v1/insource/keys", "POST /v1/insource/keys", "DELETE /v1/insource/keys/"
    }  # fmt: skip


class Store:
    """Keys in memory, which can fail."""

    def __init__(self):
        self.number, self.found, self.failing = 0, {}, None

    def changed(self):
        if self.failing:
            raise self.failing
        return self.number

    def keys_by_digest(self):
        return dict(self.found)


def keyring(store, **more):
    now = [0.0]
    ring = Keyring(store, lambda: NOON, loopback=more.get("loopback", True), seconds=lambda: now[0])
    return ring, now


async def test_nobody_is_let_in_on_old_news_when_the_registry_fails():
    store = Store()
    ring, now = keyring(store)
    await ring.refresh()
    assert ring.open
    store.found, store.number = {b"d" * 32: Key("k", "k", NOON, "ada")}, 1
    now[0] = 1.0
    await ring.refresh()
    assert not ring.open
    store.failing = StoreError("gone")
    now[0] = 1.5  # looked at beside the request, which is served on what is half a second old
    await ring.refresh()
    now[0] = 2.0
    with pytest.raises(StoreError, match="gone"):
        await ring.refresh()


async def test_while_the_registry_was_never_read_nobody_is_let_in():
    store = Store()
    store.found, store.failing = {b"d" * 32: Key("k", "k", NOON, "ada")}, StoreError("gone")
    ring, now = keyring(store)
    for _ in range(2):
        assert not ring.open
        with pytest.raises(StoreError, match="gone"):
            await ring.refresh()
        now[0] += 1.0
    store.failing, store.found = None, {}
    await ring.refresh()
    assert ring.open


async def test_a_gateway_that_cannot_read_its_keys_from_the_start_answers_503(house, chat):
    def gone():
        raise StoreError("gone")

    made(house)
    house.registry.keys_by_digest = gone
    house.start()
    async with house.client() as client:
        assert (await status(client, "/v1/chat/completions", json=chat("hello")))[0] == 503
        assert (await status(client, "/healthz", method="GET"))[0] == 200
    assert not house.raw.received


async def test_beyond_loopback_a_gateway_without_keys_is_closed():
    ring, _ = keyring(Store(), loopback=False)
    await ring.refresh()
    assert not ring.open and ring.find(["x"]) is None


def test_two_keys_at_once_let_nobody_in():
    from insource.store.keys import digest_of

    ring, _ = keyring(Store())
    (one, first), (_, second) = new_secret(), new_secret()
    ring._keys = {digest_of(text): Key(one, "k", NOON, "ada") for text in (first, second)}
    assert ring.find([first]) is not None and ring.find([first, first]) is not None
    assert ring.find([first, second]) is None and ring.find([]) is None
    ring._keys = {digest_of(first): Key(one, "k", NOON, "ada", expires=NOON - timedelta(seconds=1))}
    assert ring.find([first]) is None


def test_where_a_key_is_looked_for_and_taken_out():
    secret = new_secret()[1].encode()
    headers = [(b"Authorization", b"bearer  " + secret), (b"X-Api-Key", secret), (b"cookie", b"a=" + secret),
               (b"api-key", secret), (b"x-goog-api-key", secret), (b"x-api-key", b"sk-1"),
               (b"authorization", b"Bearer " + secret + b"x")]  # fmt: skip
    assert presented(headers) == [secret.decode()] * 2
    assert without_ours(headers) == [(b"x-api-key", b"sk-1")]
