"""A gateway in processes of its own, to be killed: `python run_gateway.py HOME`, configured by HOME/insource.toml.

The same file is what its workers run: their specialist is the shipped double, sure of one text. `HOME early` is the
broken build: its ledger acknowledges what it never writes.
"""

import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace


def say(lines):
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def supervise(home, broken=None):
    from insource.config.given import Given
    from insource.gateway.supervisor import Supervisor
    from insource.store.ledger import Ledger

    if broken == "early":
        Ledger.put = lambda ledger, jobs: [job.resolve() for job in jobs]
    given = Given.read(home / "insource.toml", {"store.home": str(home)})
    worker = (sys.executable, __file__)
    code = Supervisor(given, say, worker, clock=lambda: datetime.now(UTC)).run()
    say(["closed"])
    return code


def work(arguments):
    from insource.backends.scripted import Scripted
    from insource.gateway.parts import Parts
    from insource.gateway.worker import run_worker
    from insource.store.registry import Registry

    class Sure(Scripted):
        answers = SimpleNamespace(normalise=lambda raw: raw, find=lambda text: text, index=len)

    def opened(version, upstream=None):
        return Sure({"sure": "yes"}, score=0.9, name=version.name)

    @contextmanager
    def build(config, ledger):
        with Registry.open(config.home) as registry:
            yield Parts(config, ledger, registry, opened)

    return run_worker(arguments, build)


if __name__ == "__main__":
    sys.exit(supervise(Path(sys.argv[1]), *sys.argv[2:]) if len(sys.argv) <= 3 else work(sys.argv[1:]))
