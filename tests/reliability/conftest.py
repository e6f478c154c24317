"""Which promises a module tries."""

from reliability.harness import promises

KNOWN = promises()


def pytest_generate_tests(metafunc):
    """Give each test of a promise those that are TIMED as its module says."""
    if "promise" in metafunc.fixturenames:
        chosen = [promise for promise in KNOWN.values() if promise.timed is metafunc.module.TIMED]
        metafunc.parametrize("promise", chosen, ids=[promise.id for promise in chosen])
