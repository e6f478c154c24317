"""A gateway in front of the scripted upstream, for the real clients: what it accepts and what it sends up."""

import importlib.util
import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from insource.backends.scripted import scripted_app
from insource.types import Match, Task

GATEWAY = Path(__file__).parents[1] / "gateway" / "conftest.py"
SYSTEM = "Say yes or no."
REFERENCES = {"sure": "yes", "unsure": "yes", "wrong": "yes", "hello": "Hi, how can I help?", "fine": "safe"}
TASKS = (
    Task("triage", match=Match(models=("triage-1",), system_prompts=(SYSTEM,)), audit_rate=0.0),
    Task("guard", match=Match(models=("guard-1",)), audit_rate=0.0, moderation_safe=("yes",)),
)


def _house():
    """The gateway's own test house, whose folder has another conftest than ours."""
    name = "tests_gateway_house"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, GATEWAY)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="package")
def served(tmp_path_factory):
    """The gateway's URL, the upstream's invoice, and the words by which requests are accepted or sent up."""
    with ExitStack() as stack:
        house = _house().House(tmp_path_factory.mktemp("house"), stack)
        for task in TASKS:
            house.promote(house.register(task=task.name))
        upstream = scripted_app(REFERENCES)
        house.start(tasks=TASKS, upstream=upstream)
        yield SimpleNamespace(url=house.url, upstream=upstream, system=SYSTEM, invoice=upstream.state.invoice)
