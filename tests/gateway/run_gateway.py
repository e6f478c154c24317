"""A gateway in a process of its own, to be killed: `python run_gateway.py HOME PORT UPSTREAM`."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

from insource.backends.scripted import Scripted
from insource.config import Config, GatewayConfig, PolicyConfig, StoreConfig, UpstreamConfig
from insource.gateway.gateway import Parts
from insource.gateway.server import serve
from insource.store.ledger import Ledger
from insource.store.registry import Registry


class Sure(Scripted):
    """Knows one text, and is sure of it."""

    answers = SimpleNamespace(normalise=lambda raw: raw)


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(home, port, upstream):
    config = Config(
        GatewayConfig("127.0.0.1", port, 64, 1, 5.0, 10.0, "main"),
        StoreConfig(home, 30),
        {"main": UpstreamConfig("main", upstream, model="gpt-x")},
        {},
        PolicyConfig(),
        {},
        {},
    )

    def clock():
        return datetime.now(UTC)

    def opened(version):
        return Sure({"sure": "yes"}, score=0.9, name=version.name)

    with Registry.open(home) as registry, Ledger.open(home, clock=clock) as ledger:
        serve(Parts(config, ledger, registry, opened), say)
    say("closed")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
