"""X2: keys and tokens of many shapes are planted wherever they may be, and looked for wherever they must not be.

Planted: upstreams' keys through api_key_env, clients' own in headers, query, body, and keys in the configuration by
mistake; and insource's own: virtual keys, those of proofs, texts, TLS. Looked for, byte by byte: log at DEBUG, spans,
metrics, replies, every file of the home, report, process list, and insource's own also in what arrives upstream.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import re
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from insource.store.registry import Registry
from insource.types import Key
from reliability.config_mistakes import MISTAKES, said_of
from reliability.harness import Promise, Tally
from reliability.loud_gateway import KEY
from reliability.own_secrets import AT_HOME, TLS, VIRTUAL, make_tls, own_forms
from reliability.planted_secrets import forms, make_secret
from reliability.recording import Outside, Received, reply
from reliability.served import make_home
from reliability.soaking import PROJECT

VARIABLES = (KEY, "X2_KEY_OTHER", "X2_KEY_THIRD")
HEADERS = ("authorization", "x-api-key", "api-key", "proxy-authorization", "x-goog-api-key", "cookie", "basic")
PLACES = (*HEADERS, "query", "body", "broken body", "path")
KINDS = (*PLACES, *MISTAKES)
PATHS = (
    "/v1/chat/completions",
    "/v1/messages",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/models",
    "/v1/files",
    "/nowhere",
)
TASKS = ("triage", "best", "secret", "keyed", "other", "third", "down", "nobody", "")
MORE = """
[upstreams.main]
base_url = "{url}"
model = "m"
timeout_s = 0.2
api_key_env = "X2_KEY_MAIN"
[upstreams.other]
base_url = "{url}"
model = "m"
timeout_s = 0.2
api_key_env = "X2_KEY_OTHER"
key_header = "x-api-key"
[upstreams.third]
base_url = "{url}"
model = "m"
timeout_s = 0.2
api_key_env = "X2_KEY_THIRD"
key_header = "api-key"
[upstreams.down]
base_url = "http://127.0.0.1:9/v1"
api_key_env = "X2_KEY_MAIN"
[tasks.keyed]
upstream = "main"
content = "full"
[tasks.other]
upstream = ["other", "main"]
[tasks.third]
upstream = "third"
[tasks.down]
upstream = "down"
"""

HANDED_OVER = "handed-over"
"""The folder, beside the home, that `insource audit show --to` fills for a stranger."""
TRUSTING = ssl._create_unverified_context()
"""Whose certificate it is does not matter here."""

Secrets = dict[bytes, tuple[int, str]]
"""Every form in which a secret may be found, with its case and what it was."""


async def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Plant a secret for each case, run traffic of which half fails, and look everywhere; `broken` lets them out."""
    tally, chance = Tally(), random.Random(cases.start)
    keys = {variable: make_secret(chance, number) for number, variable in enumerate(VARIABLES)}
    secrets: Secrets = {}
    for variable, key in keys.items():
        secrets |= dict.fromkeys(forms(key), (-1, f"the upstream's key {variable}"))
    home = folder / "home"
    home.mkdir()
    async with Outside(_script) as outside, _serving(home, outside.base_url, keys, broken) as (port, pids):
        for task in ("keyed", "other", "third"):
            await _ask(port, b"POST", PATHS[0], b'{"model":"task:%b","messages":[]}' % task.encode())
        planted = {case: make_secret(random.Random(case), case) for case in cases}
        for case, secret in planted.items():
            kind = KINDS[case % len(KINDS)]
            secrets |= dict.fromkeys(forms(secret), (case, kind))
            tally.count("planted")
            if kind in MISTAKES:
                said = await asyncio.to_thread(said_of, MISTAKES[kind], secret, folder / f"mistake-{case}")
                _look(tally, secrets, f"command line ({kind})", said)
        sent = {case: secret for case, secret in planted.items() if KINDS[case % len(KINDS)] in PLACES}
        await asyncio.gather(*(_plant(tally, secrets, port, case, secret) for case, secret in sent.items()))
        virtual = await _make_keys(home, port)
        own: Secrets = {form: (-1, what) for form, what in own_forms(home, home.with_name("x2.key"), virtual)}
        tally.counts.update({f"planted {what}": 1 for what in {what for _, what in own.values()}})
        secrets |= own
        await asyncio.gather(
            *(_plant(tally, secrets, port, case, secret, virtual[case % 2]) for case, secret in sent.items())
        )
        admin = {"authorization": f"Bearer {virtual[0]}"}
        _look(tally, secrets, "metrics", await _ask(port, b"GET", "/metrics", headers=admin))
        _look(tally, secrets, "replies", await _ask(port, b"GET", "/v1/insource/keys", headers=admin))
        _look(tally, secrets, "commands", await asyncio.to_thread(_commands, home, keys))
        for path in sorted(home.with_name(HANDED_OVER).iterdir()):
            _look(tally, secrets, "what is handed over", path.read_bytes())
        _look_at_files(tally, secrets, home)
        _look(tally, secrets, "process list", _processes(pids))
        arrived = bytes(outside.bytes)
        _look(tally, own, "requests upstream", arrived)
        tally.count("keys that arrived upstream", sum(key.encode() in arrived for key in keys.values()))
    _look_at_files(tally, secrets, home)
    tally.count("upstream keys", len(keys))
    return tally


async def _make_keys(home: Path, port: int) -> tuple[str, str]:
    """Make a virtual key of an administrator and another one, and wait until the gateway asks for one."""
    with Registry.open(home) as registry:
        now = datetime.now(UTC)
        _, admin = registry.create_key(Key("", "x2", now, "x2", admin=True), "to be looked for")
        _, other = registry.create_key(Key("", "x2", now, "x2"), "to be looked for")
    async with asyncio.timeout(20):
        while b" 401 " not in (await _ask(port, b"GET", "/v1/models"))[:20]:
            await asyncio.sleep(0.02)
    return admin, other


def _look(tally: Tally, secrets: Secrets, where: str, data: bytes, file: str = "") -> None:
    """Count each secret that stands in `data`, but for those that belong in that file of the home."""
    tally.count(f"bytes of {where.partition(' (')[0]}", len(data))
    for case, what in {of for form, of in secrets.items() if form in data}:
        if file in AT_HOME.get(what, ()):
            continue
        tally.fail(case, f"{what} in {where}", "found")
        tally.count(f"found in {where.partition(' (')[0]}")


def _look_at_files(tally: Tally, secrets: Secrets, home: Path) -> None:
    """Look at every file; one that is put in another's place meanwhile is gone, and the last look is at all."""
    for folder, _, names in os.walk(home):
        for path in (Path(folder) / name for name in sorted(names)):
            if "artifacts" in path.parts:
                continue
            named = path.name if path.parent == home else path.parent.name
            where = f"file {re.sub('[^a-z._]+[0-9a-z_]*', '', named)}"
            with suppress(FileNotFoundError):
                _look(tally, secrets, where, path.read_bytes(), str(path.relative_to(home)))


async def _plant(tally: Tally, secrets: Secrets, port: int, case: int, secret: str, key: str | None = None) -> None:
    """Send requests that carry a secret, to several endpoints and tasks; look at what the client is told.

    Once a virtual `key` is needed, it comes with them, in the header that the secret leaves free.
    """
    kind, chance = KINDS[case % len(KINDS)], random.Random(f"{case} requests")
    for number in range(4):
        path = PATHS[(case + number) % len(PATHS)] if kind != "path" else f"/v1/files/{secret}"
        path += f"?key={secret}&api-version=1" if kind == "query" else ""
        text = f"where is my card {case} {number}" + (f" {secret}" if kind == "body" else "")
        body = b'{"model":"gpt-4o","max_tokens":9,"input":"%b","messages":[{"role":"user","content":"%b"}],"stream":%b}'
        body %= (text.encode(), text.encode(), chance.choice((b"true", b"false")))
        body = body[:-9] + f', "key": "{secret}'.encode() if kind == "broken body" else body
        task = TASKS[(case + number) % len(TASKS)]
        task = "triage" if kind == "body" and task == "keyed" else task  # that one keeps its texts, by choice
        headers = {"x-insource-task": task} if task else {}
        headers |= {"authorization": "Bearer none"} if kind not in HEADERS else {}
        headers |= _header(kind, secret) if kind in HEADERS else {}
        if key is not None:
            headers |= {"x-api-key": key} if "authorization" in headers else {"authorization": f"Bearer {key}"}
        _look(tally, secrets, "replies", await _ask(port, b"POST", path, body, headers))
        tally.count("requests")


def _header(kind: str, secret: str) -> dict[str, str]:
    if kind == "authorization":
        return {kind: f"Bearer {secret}"}
    if kind == "basic":
        return {"authorization": "Basic " + base64.b64encode(f"user:{secret}".encode()).decode()}
    return {kind: f"session={secret}" if kind == "cookie" else secret}


async def _ask(port: int, method: bytes, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    """Send one request and return every byte that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=TRUSTING)
    lines = {"host": "127.0.0.1", "connection": "close", "content-length": str(len(body)), **(headers or {})}
    told = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    writer.write(method + f" {path} HTTP/1.1\r\n{told}\r\n".encode() + body)
    said = bytearray()
    async with asyncio.timeout(20):
        with suppress(ConnectionError):  # an upstream's reply that broke off is broken off here as well
            while chunk := await reader.read(65_536):
                said += chunk
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return bytes(said)


def _script(received: Received, number: int) -> bytes | str:
    """Play an upstream that fails half of the time, in several ways; one of them names the key's end, as APIs do."""
    said: list[bytes | str] = [
        reply(200, b'{"choices":[{"index":0,"message":{"role":"assistant","content":"card"}}]}'),
        reply(200, b'data: {"choices":[{"delta":{"content":"card"}}]}\n\ndata: [DONE]\n\n'),
        reply(200, b"no json"), reply(500, b"{}"), reply(429, b"{}", ("retry-after", "0")), "reset", "cut", "hang",
        reply(401, b'{"error":{"message":"Incorrect API key provided: ...%b"}}' % _key_end(received)),
    ]  # fmt: skip
    return said[number % len(said)]


def _key_end(received: Received) -> bytes:
    return received.headers.get("authorization", received.headers.get("x-api-key", ""))[-4:].encode("latin-1")


def _processes(pids: Callable[[], list[int]]) -> bytes:
    """Return the command lines and names of every process of this machine; the gateway's must be among them."""
    told = b""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                told += (folder / "cmdline").read_bytes() + (folder / "comm").read_bytes()
            except OSError:
                continue
    assert b"loud_gateway" in told and pids(), "the gateway's processes are not to be seen"
    return told


def _commands(home: Path, keys: dict[str, str]) -> bytes:
    """Return what the commands say of this home with the keys in their environment, and the report as a page."""
    from click.testing import CliRunner

    from insource.cli.main import DEBUG, cli

    page, told, given = home.with_name("report.html"), b"", ["--config", str(home / "insource.toml")]
    for command in (["config", "show"], ["config", "show", "--json", "-"], ["doctor", "--json", "-"], ["status"],
                    ["report", "--html", str(page)], ["tasks"], ["explain", "--help"], ["keys", "list"],
                    ["audit", "key"], ["audit", "checkpoint"], ["audit", "show"],
                    ["audit", "show", "--to", str(home.with_name(HANDED_OVER)), "--texts"]):  # fmt: skip
        told += CliRunner().invoke(cli, [*given, *command], env={**keys, DEBUG: "1"}).output_bytes
    return told + page.read_bytes()


@asynccontextmanager
async def _serving(
    home: Path, url: str, keys: dict[str, str], broken: bool
) -> AsyncIterator[tuple[int, Callable[[], list[int]]]]:
    """Run the loud gateway; yields its port and a way to its workers' ids."""
    file = make_home(home, url, default_upstream='"stub"')
    certificate, key = make_tls(home.parent)
    gateway = f'log = "json"\ntls_cert = "{certificate}"\ntls_key = "{key}"\n[store]'
    settings = file.read_text().replace("[store]", gateway).replace("[tasks", "timeout_s = 0.2\n[tasks", 1)
    file.write_text(settings + MORE.format(url=url))
    command = (sys.executable, "-m", "reliability.loud_gateway", str(file), *(["broken"] if broken else []))
    environment = {**os.environ, **keys, "PYTHONPATH": str(PROJECT)}
    with (home / "gateway.log").open("wb") as log, (home / "gateway.out").open("wb") as out:
        process = await asyncio.create_subprocess_exec(*command, stdout=out, stderr=log, env=environment)
        try:
            async with asyncio.timeout(60):
                while not (found := re.search(rb"listens on https://[^\s]+:(\d+)/", out_of(home))):
                    assert process.returncode is None, (home / "gateway.log").read_text()
                    await asyncio.sleep(0.02)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            yield int(found[1]), lambda: [int(word) for word in children.read_text().split()]
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await process.wait()


def out_of(home: Path) -> bytes:
    """Return what the gateway has printed so far."""
    return (home / "gateway.out").read_bytes()


def judge(tally: Tally) -> list[str]:
    """No secret may be found, and what was looked at must have been there."""
    counts, found = tally.counts, []
    if counts["found"]:
        where = ", ".join(sorted(name.removeprefix("found in ") for name in counts if name.startswith("found in ")))
        found.append(f"secrets were found {counts['found']:,} times: {where}")
    for what in ("file gateway.log", "file spans.jsonl", "file ledger.db", "file registry.db", "metrics", "replies",
                 "process list", "commands", "what is handed over", "requests upstream",
                 "file content_keys.db"):  # fmt: skip
        if not counts[f"bytes of {what}"]:
            found.append(f"nothing was looked at in {what}")
    if any(not counts[f"planted {what}"] for what in (*AT_HOME, TLS, VIRTUAL)):
        found.append("not every secret of insource's own was planted")
    if not counts["planted"] or counts["keys that arrived upstream"] < counts["upstream keys"]:
        found.append("not every upstream's key was in use")
    return found


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    looked = sum(count for name, count in counts.items() if name.startswith("bytes of "))
    return (
        f"{counts['planted'] + counts['upstream keys']:,} planted secrets and insource's own (virtual keys, keys of "
        f"proofs, texts and TLS), {counts['requests']:,} requests, "
        f"{looked / 1e6:.1f} MB looked at in {sum(name.startswith('bytes of ') for name in counts)} places: "
        f"{counts['found']} hits"
    )


PROMISE = Promise(
    id="X2",
    says="Secrets stay secret",
    asked="200 planted secrets, virtual keys, private keys of proofs and TLS under mixed traffic with failures, debug "
    "on: 0 in logs, spans, ledger, registry, "
    "errors, metrics, HTML, configuration shown, process list, run files",
    unit="planted secrets",
    full=200,
    sample=len(KINDS),
    slow=120,
    control=4,
    chunk=50,
    run=run,
    judge=judge,
    seen=seen,
    open="a core file and the environment of a process are the system's to protect and hold the keys; a text kept by "
    'choice (content = "full", review) keeps what its client wrote into it; an upstream that '
    "quotes the whole key in its own error reply is passed on byte for byte (the one tried quotes its end, as APIs do)",
)
