"""A request accepted by a linear specialist over HTTP, its decision durable; and the specialist by itself."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import aiohttp
import numpy as np

from benchmarks.figure import Figure, insource, part
from insource.cli.demo_servers import Process

REQUESTS = 1_000


def run(data: Path, home: Path, *, quick: bool) -> list[Figure]:
    """Train on banking77, serve, and ask one request at a time."""
    trained, _ = insource(home, "train", part(data, "banking77", "train"), "--task", "latency", "--family", "linear")
    insource_promote(home, f"latency@{trained['version']}")
    texts = [json.loads(line)["text"] for line in part(data, "banking77", "test").read_text().splitlines()[:REQUESTS]]
    with Process(["--home", str(home), "serve", "--port", "0", "--upstream", "http://127.0.0.1:9/v1"], home) as gateway:
        times = asyncio.run(_ask(gateway.url, texts))
    p50, p99 = np.quantile(times, [0.5, 0.99]) * 1000
    alone = trained["latency_ms"]
    return [
        Figure("accepted over HTTP, p50", f"{p50:.2f} ms (p99 {p99:.1f} ms, {len(times)} accepted)", "< 5 ms", p50 < 5),
        Figure("the specialist itself, p50", f"{alone['p50']:.3f} ms", "< 0.1 ms", alone["p50"] < 0.1),
    ]


def insource_promote(home: Path, name: str) -> None:
    """Make a version the active one."""
    import subprocess
    import sys

    command = [sys.executable, "-m", "insource.cli.main", "--home", str(home), "promote", name]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


async def _ask(url: str, texts: list[str]) -> list[float]:
    times = []
    async with aiohttp.ClientSession() as session:
        for text in texts:
            body = {"model": "task:latency", "messages": [{"role": "user", "content": text}]}
            start = time.perf_counter()
            async with session.post(f"{url}/v1/chat/completions", json=body) as reply:
                await reply.read()
                if reply.headers.get("x-insource-reason") == "above_threshold":
                    times.append(time.perf_counter() - start)
    return times
