"""No path and no method leads out of the API, in whatever disguise."""

from urllib.parse import quote, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from insource.errors import RequestError
from insource.policy.paths import check_destination

INSIDE = [
    "/v1/chat/completions",
    "/v1/models",
    "/v1/models/meta%2Fllama-3.1-8b",
    "/v1/models/gpt-4o-2024.08.06",
    "/v1/files/file-1/content?after=../x&limit=%0A",
    "/v1/a..b/c",
    "/v1/models/caf%C3%A9",
    "/v1/models/ft:gpt-4o:org::1",
    "/v1/models/100%25",
    "/v1/messages?beta=true",
    "/v1//chat/completions",
]
OUTSIDE = [
    "", "/", "/v1", "/v2/chat", "/V1/chat", "/admin", "//evil.example/v1/chat", "v1/chat",
    "http://evil.example/v1/chat", "https://evil.example/v1/", "HTTP://169.254.169.254/v1/", "evil.example:443",
    "@evil.example/v1/chat", "/v1@evil.example/", "user:key@evil.example/v1/", "/@evil.example/v1/", "*",
    "/v1/..", "/v1/.", "/v1/../admin", "/v1/./../admin", "/v1/a/../../admin",
    "/v1/%2e%2e/admin", "/v1/%2e%2E/admin", "/v1/.%2e/admin", "/v1/a%2f..%2f..%2fb", "/v1%2f../x",
    "/v1/%252e%252e/admin", "/v1/%25252e%25252e%25252fadmin", "/v1/%25%32%65%25%32%65/admin",
    "/v1/..%5cadmin", "/v1/..\\b", "/v1/a\\b", "/v1/%5c%5cevil", "/v1/%255c..",
    "/v1/..;/admin", "/v1/..;x=1/admin", "/v1/%2e%2e%3b/admin",
    "/v1/%c0%ae%c0%ae/admin", "/v1/%e0%80%ae/", "/v1/%ff", "/v1/%uff0e%uff0e/", "/v1/%",  "/v1/%2",
    "/v1/\uff0e\uff0e/admin", "/v1/%EF%BC%8E%EF%BC%8E/admin", "/v1/%E2%80%A5/admin", "/v1/a%EF%BC%8F..%EF%BC%8Fb",
    "/v1/chat HTTP/1.1", "/v1/chat\r\nHost: evil.example", "/v1/chat\nX: y", "/v1/chat\0", "/v1/chat\x7f",
    "/v1/chat%0d%0aHost:%20evil.example", "/v1/chat%0a", "/v1/chat%00.json", "/v1/%250d%250a",
    "/v1/chat?a=b\r\nHost: evil.example", "/v1/chat?a=\0", "/v1/chat?a b", "/v1/chat#@evil.example", "/v1/chat?x#y",
    "/v1/%2525252525252525252e",
]  # fmt: skip


def allowed(method, path):
    try:
        check_destination(method, path)
    except RequestError:
        return False
    return True


@pytest.mark.parametrize("path", INSIDE)
def test_the_api_is_reached(path):
    assert allowed("POST", path)


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_way_out_is_refused(path):
    with pytest.raises(RequestError, match="one under /v1/ was expected"):
        check_destination("POST", path)


@pytest.mark.parametrize("path", ["/v1/../admin", "/v1/%2e%2e/admin", "/v1/..%5cadmin", "/v1/chat\r\nHost: x"])
def test_looking_at_the_start_alone_would_let_them_pass(path):
    assert path.startswith("/v1/") and not allowed("GET", path)


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "get", "", "GET /v1/x HTTP/1.1\r\nHost: y\r\n\r\nGET", "PRI"])
def test_a_method_that_is_none_is_refused(method):
    with pytest.raises(RequestError, match="method"):
        check_destination(method, "/v1/models")


CLIMB = st.sampled_from(["..", "../", "..\\", "..;/", "%2e%2e/", ".%2e/", "\r\n", "\0", "\uff0e\uff0e/", "\\"])


@given(st.text("abc/.-", max_size=8), CLIMB, st.text("abc/", max_size=8), st.integers(0, 4))
def test_no_number_of_encodings_hides_a_climb(before, climb, after, times):
    path = f"{before}/{climb}/{after}"
    for _ in range(times):
        path = quote(path, safe="/")
    assert not allowed("GET", "/v1/" + path)


@given(st.text(max_size=40))
@example("%2e%2e/admin")
def test_what_passes_has_no_climb_after_any_decoding(text):
    if allowed("GET", "/v1/" + text):
        path = ("/v1/" + text).split("?")[0]
        for _ in range(6):
            assert not {".", ".."} & set(path.replace("\\", "/").split("/")) and "\r" not in path and "\n" not in path
            path = unquote(path)
