"""What proofs and keys cost: pass-through of one source served by turns without both, with the tree, and with a key.

Loopback only, in processes: a stub upstream, the load, and three gateways, of which one is asked at a time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from time import monotonic, sleep

from benchmarks.figure import Figure, insource
from benchmarks.gateway import CONNECTIONS, PASS, clean, empty, free_port, lines, load, stub
from benchmarks.wire.load import KEY as NO_KEY

WITHOUT, TREE, KEY = "without", "with the tree", "with the tree and a key"
"""The key has a budget of money, one of tokens and a rate, none of which is ever reached."""
LIMITS = ("--budget", "1000/day", "--tokens", "1000000000/day", "--rate", "1000000/min")
REACH = 0.85


@dataclass(frozen=True)
class Gateway:
    """One that is served: its port, and what its requests bring as a key."""

    port: int
    key: str


def run(data: Path, home: Path, *, quick: bool) -> list[Figure]:
    """Measure both ratios; no data set is needed."""
    rounds, seconds = (2, 1.0) if quick else (24, 1.5)
    folder = empty(home / "cost-of-proof")
    bodies, cores = lines(folder, "pass", [PASS]), len(os.sched_getaffinity(0))
    rates: dict[str, list[float]] = {WITHOUT: [], TREE: [], KEY: []}
    with stub() as upstream, ExitStack() as opened:
        gateways = {name: opened.enter_context(serving(empty(folder / name), upstream, name, cores)) for name in rates}
        for turn in range(-1, rounds):  # the first round warms up, and none always goes first
            for name in sorted(rates, key=lambda name: (list(rates).index(name) + turn) % len(rates)):
                gateway = gateways[name]
                rate = clean(load("closed", gateway.port, CONNECTIONS, seconds, bodies=bodies, key=gateway.key))
                if turn >= 0:
                    rates[name].append(rate)
    told = f"{median(rates[WITHOUT]):,.0f}/s without"
    return [_figure(name, rates[name], rates[WITHOUT], told) for name in (TREE, KEY)]


def _figure(name: str, rates: list[float], without: list[float], told: str) -> Figure:
    """Return the median of the ratios within rounds."""
    ratios = [own / bare for own, bare in zip(rates, without, strict=True)]
    low, ratio, high = quantiles(ratios, n=4)
    seen = (f"{ratio:.1%} (quartiles {low:.0%} and {high:.0%} of {len(rates)} rounds; "
            f"{median(rates):,.0f}/s against {told})")  # fmt: skip
    return Figure(f"pass-through {name}, of that without", seen, f"{REACH:.0%}", ratio >= REACH)


@contextmanager
def serving(folder: Path, upstream: int, name: str, workers: int) -> Iterator[Gateway]:
    """Run one of the gateways, all with the same configuration."""
    port, config = free_port(), folder / "insource.toml"
    config.write_text(
        f'[gateway]\nport = {port}\nworkers = {workers}\n[store]\nhome = "{folder}"\n[upstreams.stub]\n'
        f'base_url = "http://127.0.0.1:{upstream}/v1"\nmodel = "gpt-4o"\nprice_in = 2.5\nprice_out = 10\n'
        "max_reply_tokens = 1000\n"
    )
    key = NO_KEY
    if name == KEY:
        made, _ = insource(folder, "keys", "create", "bench", "--why", "bench", *LIMITS)
        key = made["key"]
    module = "benchmarks.wire.unproven" if name == WITHOUT else "insource.cli.main"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", module, "--config", str(config), "serve"],
                                   stdout=log, stderr=log)  # fmt: skip
        try:
            _await(process, port)
            yield Gateway(port, key)
        finally:
            process.terminate()
            process.wait(30)


def _await(process: subprocess.Popen[bytes], port: int) -> None:
    until = monotonic() + 60
    while process.poll() is None and monotonic() < until:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1).close()
            return
        except OSError:
            sleep(0.1)
    raise SystemExit("a gateway did not start; its log lies beside its configuration")
