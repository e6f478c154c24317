"""The table of routes: nothing beside it is served, and no route's path in disguise goes up unread."""

import pytest
from yarl import URL

from insource.gateway.app import Application
from insource.gateway.wire import DIALECTS


def test_every_path_that_is_served_stands_in_the_table():
    app = Application(None)
    assert set(app._routes) < set(app.paths)
    assert {path for _, path in app.paths} >= set(DIALECTS)
    for method, path in app.paths:
        scope = {"method": method, "path": path.replace("{id}", "0").replace("...", "x"), "headers": []}
        assert app._routes.get((method, scope["path"])) or app._found(scope)
    for path in ("/", "/v1", "/v2/models", "/docs", "/v1/insource/x", "/v1/insource", "/healthz/"):
        for method in ("GET", "POST", "DELETE"):
            assert app._found({"method": method, "path": path, "headers": []}) is None


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions/",
        "/v1/chat//completions",
        "/v1/CHAT/completions",
        "/v1/chat/completions;x",
        "/v1/chat/completions%20",
        "/v1/chat/%2563ompletions",
        "/v1/chat/completions%3Fx",
        "/v1/chat/completions.json",
        "/v1/messages/.",
        "/v1/INSOURCE/reviews/1",
    ],
)
async def test_a_route_in_disguise_is_not_passed_on_unread(house, path):
    house.start()
    async with house.client() as client, client.post(URL(house.url + path, encoded=True), data=b"{}") as reply:
        assert reply.status == 404
        assert (await reply.json())["error"]["code"] == "invalid_request"
    assert not house.raw.received


@pytest.mark.parametrize(
    ("method", "body", "status"),
    [("PUT", b"{}", 405), ("DELETE", b"{}", 405), ("GET", None, 200), ("DELETE", None, 200)],
)
async def test_a_route_in_another_method_is_passed_on_without_a_body_only(house, method, body, status):
    house.start()
    async with house.client() as client, client.request(method, "/v1/chat/completions", data=body) as reply:
        assert reply.status == status
    assert len(house.raw.received) == (status == 200)


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions/chatcmpl-1", "/v1/messages/count_tokens", "/v1/completions2", "/v1/files/a.json"]
)
async def test_what_only_begins_like_a_route_is_passed_on(house, path):
    house.start()
    async with house.client() as client, client.post(path, data=b"{}") as reply:
        assert reply.status == 200
    assert len(house.raw.received) == 1
