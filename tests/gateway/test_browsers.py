"""Web pages are kept out; clients on this machine are not."""

import pytest

from insource.errors import Forbidden
from insource.gateway.browsers import refuse_pages


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "127.0.0.1:8600"},
        {"host": "localhost"},
        {"host": "[::1]:8600"},
        {"host": "127.8.9.10", "origin": "http://localhost:3000"},
    ],
)
def test_clients_of_this_machine_are_let_in(headers):
    refuse_pages(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example:8600"},
        {"host": "127.0.0.1:8600", "origin": "https://evil.example"},
        {"host": "127.0.0.1:8600", "origin": "null"},
        {"host": "[", "origin": "http://127.0.0.1"},
        {"host": "192.168.0.4:8600"},
    ],
)
def test_pages_and_rebound_names_are_not(headers):
    with pytest.raises(Forbidden, match="a loopback address was expected"):
        refuse_pages(headers)


async def test_the_gateway_asks_before_anything_is_sent(house):
    house.start()
    page = {"origin": "https://evil.example"}
    async with house.client() as client:
        for path in ("/v1/chat/completions", "/v1/embeddings"):
            async with client.post(path, data=b"{}", headers=page) as reply:
                assert reply.status == 403
                assert (await reply.json())["error"]["code"] == "forbidden"
    assert not house.raw.received


@pytest.mark.parametrize(
    "headers", [{"sec-fetch-site": "cross-site"}, {"host": "127.0.0.1/.evil.example"}, {"origin": ""}]
)
def test_what_a_page_embeds_and_odd_hosts_are_not(headers):
    with pytest.raises(Forbidden):
        refuse_pages(headers)


async def test_no_path_is_open_to_pages(house):
    house.start()
    async with house.client() as client:
        for path in ("/healthz", "/readyz", "/metrics", "/v1/models", "/v1/insource/reviews/x"):
            async with client.get(path, headers={"host": "evil.example"}) as reply:
                assert reply.status == 403
    assert not house.raw.received
