"""What the gateway costs: throughput beside nginx and LiteLLM, added latency, specialists, event streams, memory.

Everything runs on this machine's loopback: a stub upstream, the load, and what stands between them, each a process.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.figure import Figure, insource, part
from benchmarks.latency import insource_promote
from benchmarks.peers import litellm, nginx
from benchmarks.wire.load import KEY
from insource.cli.demo_servers import Process

CONNECTIONS = 32
PASS = {"model": "gpt-4o", "messages": [{"role": "system", "content": "You are helpful."},
                                        {"role": "user", "content": "Where is my parcel?"}]}  # fmt: skip
Result = dict[str, Any]


def run(data: Path, home: Path, *, quick: bool) -> list[Figure]:
    """Measure all of it."""
    folder = home / "gateway"
    rounds, seconds = (1, 2.0) if quick else (5, 5.0)
    with stub() as upstream:
        return [
            *throughput(empty(folder / "pass"), upstream, rounds, seconds),
            *latency(empty(folder / "pass"), upstream, rounds, seconds * 2),
            *streams(empty(folder / "pass"), upstream),
            *accepted(data, folder / "linear", seconds),
            *encoder(data, folder / "encoder", seconds),
            *memory(empty(folder / "pass"), upstream, 20_000 if quick else 1_000_000),
        ]


def throughput(folder: Path, upstream: int, rounds: int, seconds: float) -> list[Figure]:
    """Pass-through, 32 connections, decisions durable, in turn with the peers; medians of the ratios.

    Each gateway has as many workers as there are cores.
    """
    cores = len(os.sched_getaffinity(0))
    bodies, seen = lines(folder, "pass", [PASS]), dict[str, list[float]]()
    ours, theirs, others = free_port(), free_port(), free_port()
    with (
        serving(folder, upstream, ours, workers=cores),
        nginx(folder, theirs, upstream, cores) as has_nginx,
        litellm(folder, others, upstream, cores) as has_litellm,
    ):
        for _ in range(rounds):
            for name, port, there in (("nginx", theirs, has_nginx), ("insource", ours, True),
                                      ("litellm", others, has_litellm)):  # fmt: skip
                if there:
                    seen.setdefault(name, []).append(clean(load("closed", port, CONNECTIONS, seconds, bodies=bodies)))
    figures = []
    for name, what, reach in (("litellm", "LiteLLM proxy", 20.0), ("nginx", "nginx proxy_pass", 1 / 8)):
        if name not in seen:
            figures.append(Figure(f"pass-through against {what}", "not measured: not installed", None))
            continue
        ratio = median(own / peer for own, peer in zip(seen["insource"], seen[name], strict=True))
        rates = f"{median(seen['insource']):,.0f}/s against {median(seen[name]):,.0f}/s"
        told = f"{ratio:.1f} times" if ratio > 1 else f"1/{1 / ratio:.1f}"
        figures.append(Figure(f"pass-through against {what}", f"{told} ({rates})",
                              "20 times" if reach > 1 else "1/8", ratio >= reach))  # fmt: skip
    return figures


def latency(folder: Path, upstream: int, rounds: int, seconds: float) -> list[Figure]:
    """What the gateway adds at 200 requests a second: quantiles through it less those of the stub alone."""
    bodies, figures = lines(folder, "pass", [PASS]), []
    for record, p50, p99 in (("before_reply", 3.0, 15.0), ("after_reply", 0.6, 5.0)):
        added, port = list[tuple[float, float]](), free_port()
        with serving(folder, upstream, port, record=record):
            for _ in range(rounds):
                alone = load("open", upstream, 200, seconds, bodies=bodies)
                through = load("open", port, 200, seconds, bodies=bodies)
                added.append((through["p50"] - alone["p50"], through["p99"] - alone["p99"]))
        seen = [median(values) for values in zip(*added, strict=True)]
        figures.append(Figure(f"added at 200/s, {record}, p50 / p99", f"{seen[0]:.2f} / {seen[1]:.2f} ms",
                              f"< {p50:g} / {p99:g} ms", seen[0] < p50 and seen[1] < p99))  # fmt: skip
    return figures


def streams(folder: Path, upstream: int) -> list[Figure]:
    """200 event streams of 20 events a second, direct and through the gateway."""
    bodies, port = lines(folder, "stream", [{**PASS, "stream": True}]), free_port()
    with serving(folder, upstream, port):
        direct = load("streams", upstream, 200, bodies=bodies)
        through = load("streams", port, 200, bodies=bodies)
    first = through["first"]["p50"] - direct["first"]["p50"]
    whole = through["ended"] == 200 and through["events"] == direct["events"]
    return [
        Figure("events delayed less than 100 ms", f"{through['under_100_ms']:.2%} of {through['events']:,} "
               f"(p99 {through['late']['p99']:.1f} ms)", "99 %", through["under_100_ms"] >= 0.99 and whole),
        Figure("time to first event, beyond direct, median", f"{first:.2f} ms", "2 ms", first <= 2),
    ]  # fmt: skip


def accepted(data: Path, folder: Path, seconds: float) -> list[Figure]:
    """Requests that a linear specialist accepts, 32 connections, durable, one worker."""
    rate, alone = _specialist(data, folder, "linear", seconds)
    return [Figure("accepted by a linear specialist", f"{rate:,.0f}/s ({alone})", "2,500/s", rate >= 2_500)]


def encoder(data: Path, folder: Path, seconds: float) -> list[Figure]:
    """The same with the frozen encoder, against its engine alone on the same texts."""
    rate, _ = _specialist(data, folder, "encoder-frozen", seconds)
    command = ["benchmarks.wire.bare", folder, "bench-encoder-frozen", folder / "encoder-frozen.jsonl", seconds]
    done = subprocess.run([sys.executable, "-m", *map(str, command)], check=True, capture_output=True, text=True)
    bare = float(done.stdout)
    seen = f"{rate / bare:.0%} ({rate:,.0f}/s against {bare:,.0f}/s)"
    return [Figure("encoder, 32 connections, of the bare engine's batch throughput", seen, "85 %", rate / bare >= 0.85)]


def memory(folder: Path, upstream: int, requests: int) -> list[Figure]:
    """A worker's resident memory while it passes requests through, and its slope over the second half."""
    bodies, port, seen, sent = lines(folder, "pass", [PASS]), free_port(), list[tuple[int, float]](), 0
    with serving(folder, upstream, port) as gateway:
        while sent < requests:
            result = load("closed", port, CONNECTIONS, 10.0, bodies=bodies)
            sent += int(result["rate"] * 12)  # the warm-up's, too
            seen.append((sent, worker_megabytes(gateway.pid)))
    half = seen[len(seen) // 2 :]
    slope = (half[-1][1] - half[0][1]) / max(half[-1][0] - half[0][0], 1) * 1e6
    peak = max(megabytes for _, megabytes in seen)
    return [Figure(f"memory of a worker over {sent:,} requests", f"{peak:.0f} MB, {slope:+.1f} MB a million",
                   "150 MB, no slope", peak < 150 and slope < 5)]  # fmt: skip


def empty(folder: Path) -> Path:
    """Return a home without a version in it: any that it holds would be loaded and served."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _specialist(data: Path, folder: Path, family: str, seconds: float) -> tuple[float, str]:
    folder.mkdir(parents=True, exist_ok=True)
    name = f"bench-{family}"
    trained, _ = insource(folder, "train", part(data, "banking77", "train"), "--task", name, "--family", family)
    insource_promote(folder, f"{name}@{trained['version']}")
    texts = [json.loads(line)["text"] for line in part(data, "banking77", "test").read_text().splitlines()]
    asked = [{"model": f"task:{name}", "messages": [{"role": "user", "content": text}]} for text in texts]
    port = free_port()
    with serving(folder, 9, port):
        sure = _accepted_only(port, asked)
        bodies = lines(folder, family, sure)
        result = load("closed", port, CONNECTIONS, seconds, bodies=bodies)
    counts = result["counts"]
    accepted = counts.get("above_threshold", 0) / sum(counts[code] for code in counts if code.isdigit())
    return result["rate"] * accepted, f"p50 {result['p50']:.1f} ms, p99 {result['p99']:.1f} ms"


def _accepted_only(port: int, asked: list[Result]) -> list[Result]:
    """Return the requests that the specialist accepts; the others would measure the missing upstream."""
    import urllib.error
    import urllib.request

    sure = []
    for body in asked[:1_000]:
        post = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode(),
                                      {"content-type": "application/json"})  # fmt: skip
        try:
            with urllib.request.urlopen(post) as reply:
                if reply.headers["x-insource-reason"] == "above_threshold":
                    sure.append(body)
        except urllib.error.HTTPError:
            continue
    return sure


@contextmanager
def stub() -> Iterator[int]:
    """Run the stub upstream; yields its port."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.wire.stub", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield port
        finally:
            process.kill()


@contextmanager
def serving(
    folder: Path, upstream: int, port: int, *, record: str = "before_reply", workers: int = 1
) -> Iterator[Process]:
    """Run `insource serve`."""
    config = folder / "insource.toml"
    config.write_text(
        f'[gateway]\nport = {port}\nworkers = {workers}\n[store]\nhome = "{folder}"\nrecord = "{record}"\n'
        f'[upstreams.stub]\nbase_url = "http://127.0.0.1:{upstream}/v1"\nmodel = "gpt-4o"\n'
    )
    with Process(["--config", str(config), "serve"], folder) as gateway:
        yield gateway


def load(kind: str, port: int, amount: float, seconds: float = 5.0, *, bodies: Path, key: str = KEY) -> Result:
    """Run the load in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.wire.load", kind, str(port), str(amount), str(seconds), "--key", key]
    done = subprocess.run([*command, "--bodies", str(bodies)], check=True, capture_output=True, text=True)
    result: Result = json.loads(done.stdout)
    return result


def lines(folder: Path, name: str, bodies: Sequence[Result]) -> Path:
    """Write request bodies, one a line."""
    path = folder / f"{name}.jsonl"
    path.write_bytes(b"\n".join(json.dumps(body, separators=(",", ":")).encode() for body in bodies))
    return path


def worker_megabytes(supervisor: int) -> float:
    """Return the resident memory of the supervisor's worker, in MB of 10**6 bytes."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    pages = int(Path(f"/proc/{children[0] if children else supervisor}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean(result: Result) -> float:
    """Return the rate of a load in which nothing but 200 was seen."""
    wrong = {code: count for code, count in result["counts"].items() if code.isdigit() and code != "200"}
    if wrong or result["lost"]:
        raise SystemExit(f"the load saw {wrong} and {result['lost']} lost connections; only 200 was expected")
    time.sleep(0.2)
    return float(result["rate"])
