"""Configurations by chance: sound ones that differ in everything that may change, and ones no gateway may take over.

It writes texts and knows what settings mean; it reads none and starts nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

NAMES = ("card", "lost", "refund", "triage")


def sound(chance: Random, home: str, upstream: str, *, port: int = 0, workers: int = 1) -> str:
    """Return a configuration that can be taken over; what a start fixes is fixed."""
    lines = [
        "[gateway]", f"port = {port}", f"workers = {workers}", f"max_concurrency = {chance.randint(50, 500)}",
        f"max_body_mb = {chance.randint(1, 64)}", f"drain_s = {chance.randint(1, 5)}",
        f"receipt_s = {chance.randint(5, 60)}", f"retry_budget = {chance.random():.2f}",
        'default_upstream = ["main", "other"]' if chance.random() < 0.5 else 'default_upstream = "main"',
        "[store]", f'home = "{home}"',
    ]  # fmt: skip
    for name in ("main", "other", *(f"more-{number}" for number in range(chance.randint(0, 3)))):
        lines += [
            f"[upstreams.{name}]", f'base_url = "{upstream}"', f'model = "m-{chance.randint(0, 9)}"',
            f"retries = {chance.randint(0, 3)}", f"breaker_failures = {chance.randint(50, 99)}",
            f"timeout_s = {chance.randint(5, 60)}", f'jurisdiction = "{chance.choice(("EU", "US"))}"',
            f"price_in = {chance.randint(1, 9)}.5", "price_out = 2",
        ]  # fmt: skip
    for name in chance.sample(NAMES, chance.randint(0, len(NAMES))):
        lines += [
            f"[tasks.{name}]", f"audit_rate = {chance.choice((0, 0.05))}", f"deadline_ms = {chance.randint(50, 900)}",
            f'content = "{chance.choice(("digest", "full"))}"',
            f'sensitivity = "{chance.choice(("public", "internal"))}"',
            f'match.model = ["for-{name}-{chance.randint(0, 9)}"]', f'match.system_prompt = "{name} {chance.random()}"',
            f'match.header = {{ x-job = "{name}-{chance.randint(0, 9)}" }}',
        ]  # fmt: skip
    if chance.random() < 0.5:
        lines += ["[policy]", 'sensitivity = "public"', 'internal.upstreams = ["main"]', "restricted.upstreams = []"]
    return "\n".join(lines) + "\n"


def _added(*lines: str) -> Callable[[str, Random], str]:
    return lambda text, chance: text + "\n" + "\n".join(lines) + "\n"


def _set(key: str, *values: str) -> Callable[[str, Random], str]:
    """Set a key of [gateway] or of [store] to one of some values, in place of what stands there."""

    def change(text: str, chance: Random) -> str:
        section, name = key.split(".")
        kept = [line for line in text.splitlines() if not line.startswith(f"{name} =")]
        at = kept.index(f"[{section}]") + 1
        return "\n".join([*kept[:at], f"{name} = {chance.choice(values)}", *kept[at:]]) + "\n"

    return change


def _upstream(*lines: str) -> Callable[[str, Random], str]:
    return _added("[upstreams.wrong]", *lines)


def _task(*lines: str) -> Callable[[str, Random], str]:
    return _added("[tasks.wrong]", *lines)


_URL = 'base_url = "http://127.0.0.1:9/v1"'
WRONG: dict[str, Callable[[str, Random], str | bytes | None]] = {
    "cut": lambda text, chance: text[: chance.randrange(40, len(text))] + '\nhalf = "',
    "no TOML": lambda text, chance: text + chance.choice(("broken", "= 3", "[", "[[x", "a.b.", "x = 1 2", "x = 0x")),
    "not UTF-8": lambda text, chance: text.encode() + b'# \xff\xfe\n',
    "a zero byte": lambda text, chance: text + "\n\0\n",
    "bytes of chance": lambda text, chance: b"\xff" + chance.randbytes(chance.randint(1, 5_000)),
    "deep": lambda text, chance: text + "\nx = " + "[" * chance.choice((500, 5_000, 100_000)),
    "deep keys": lambda text, chance: text + "\n" + ".".join("a" * 1_000) + " = 1\n",
    "long number": lambda text, chance: "x = " + "9" * chance.choice((5_000, 50_000)) + "\n" + text,
    "long date": _added("x = 2026-13-45T99:99:99Z"),
    "long key": lambda text, chance: text + "\n" + "k" * 1_000_000 + " = 1\n",
    "a megabyte": lambda text, chance: text + "\n" + "# filling\n" * 100_000 + "x = \n",
    "many tasks": lambda text, chance: text + "".join(f"[tasks.t{n}]\n" for n in range(500)) + "wrong = 1\n",
    "empty": lambda text, chance: "",
    "removed": lambda text, chance: None,
    "key twice": _set("gateway.drain_s", "1\ndrain_s = 2"),
    "table twice": _added("[gateway]"),
    "unknown section": _added("[gatway]"),
    "unknown key": lambda text, chance: text.replace("[store]", f"[store]\n{chance.choice('xyz')} = 1"),
    "unknown key of a task": _task("target_rsik = 0.1"),
    "a list for a table": lambda text, chance: "policy = []\n" + text.replace("[policy]", "[tasks.p]"),
    "wrong type": _set("gateway.max_concurrency", '"many"', "true", "[1]", "{}", "1.5", "2026-01-01", '""'),
    "out of range": _set("gateway.max_body_mb", "0", "-1", "999999999999999999999", "3000"),
    "no number": _set("gateway.drain_s", "nan", "inf", "-inf", "1e9999", "-0.1"),
    "budget": _set("gateway.retry_budget", "2", "-1", "nan"),
    "other host": _set("gateway.host", '"0.0.0.0"', '"::1"', '"example.com"', '"127.0.0.2"'),
    "other port": _set("gateway.port", "1", "65535", "70000", "-1"),
    "other workers": _set("gateway.workers", "3", "64", "0", "1000"),
    "other log": _set("gateway.log", '"json"', '"loud"'),
    "other home": _set("store.home", '"/nowhere/at/all"', '"elsewhere"', '""', '"\\u0000"'),
    "other retention": _set("store.retention_days", "1", "0", "99999999"),
    "other record": _set("store.record", '"after_reply"', '"never"'),
    "unknown default": _set("gateway.default_upstream", '"nobody"', '["main", "nobody"]', "{ nobody = 1 }",
                            "{ main = -1 }"),
    "no address": _upstream('model = "x"'),
    "wrong address": _upstream('base_url = "ftp://127.0.0.1"'),
    "half an address": _upstream('base_url = "http://"'),
    "port of an address": _upstream('base_url = "http://127.0.0.1:999999/v1"'),
    "missing key": _upstream(_URL, 'api_key_env = "R16_NO_SUCH_KEY"'),
    "a key in the file": _upstream(_URL, 'api_key = "sk-abcdefghijklmnopqrstuvwxyz0123456789"'),
    "wrong price": _upstream(_URL, 'price_in = "-1"'),
    "wrong currency": _upstream(_URL, 'currency = "euro"'),
    "wrong header": _upstream(_URL, 'key_header = "cookie"'),
    "wrong name": _added('[upstreams."No Name"]', _URL),
    "unknown upstream": _task('upstream = "nobody"'),
    "unknown tier": _task('tiers = ["nobody"]'),
    "unknown in policy": lambda text, chance: text.split("[policy]")[0] + '[policy]\npublic.upstreams = ["nobody"]\n',
    "wrong sensitivity": _task('sensitivity = "secret"'),
    "wrong guard": _task("guard.yes = 1.5"),
    "wrong risk": _task("target_risk = 0.9"),
    "two tasks, one model": _added("[tasks.a]", 'match.model = "x"', "[tasks.b]", 'match.model = "x"'),
    "two tasks, one prompt": _added("[tasks.a]", 'match.system_prompt = "x"', "[tasks.b]", 'match.system_prompt = "x"'),
    "two tasks, one header": _added("[tasks.a]", 'match.header.x-a = "1"', "[tasks.b]", 'match.header.x-a = "1"'),
    "two tasks, one template": _added("[tasks.a]", 'match.system_template = "Say {a} now"', "[tasks.b]",
                                      'match.system_template = "Say {b} now"'),
    "two tasks, one user's template": _added("[tasks.a]", 'match.user_template = "Say {a} now"', "[tasks.b]",
                                             'match.user_template = "Say {b} now"'),
    "another task's name": _task('match.model = "task:triage"'),
    "wrong schema": _task('match.schema = "sha256:12"'),
    "unknown trunk": _added("[embeddings.e]", 'trunk = "nowhere"'),
    "trunk of no digest": _added("[embeddings.e]", f'trunk = "{"0" * 64}"'),
    "no trunk": _added("[embeddings.e]", 'model = "m"'),
}  # fmt: skip


def wrong(case: int, text: str) -> tuple[str, bytes | None]:
    """Return a mistake's name, and a sound configuration with it; None in place of the file where it is removed."""
    kind = list(WRONG)[case % len(WRONG)]
    made = WRONG[kind](text, Random(f"{case} wrong"))
    return kind, made.encode() if isinstance(made, str) else made
