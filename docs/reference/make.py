"""Makes the generated parts of the reference from the code, between `<!-- made: NAME -->` and `<!-- end -->`.

`--check` writes nothing and exits with 1 where a page is out of date. It knows no prose; that stands in the pages.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from insource.errors import InsourceError

FOLDER = Path(__file__).parent
BLOCK = re.compile(r"(<!-- made: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
WIDTH = 100


def commands() -> str:
    """Return the help of every command, as it is printed."""
    from insource.cli.main import COMMANDS

    parts = [f"```text\n{_help([])}\n```\n"]
    for name in COMMANDS:
        parts += [f"## `insource {name}`\n\n```text\n{_help(path)}\n```\n" for path in _paths(name)]
    return "\n".join(parts)


def settings() -> str:
    """Return a table for each section of the configuration."""
    from insource.config import SETTINGS

    titles = {"gateway": "[gateway]", "store": "[store]", "upstreams": "[upstreams.NAME]", "tasks": "[tasks.NAME]"}
    parts = []
    for section, title in titles.items():
        rows = [
            (
                f"`{setting.key.split('.', 2 if 'NAME' in setting.path else 1)[-1]}`",
                setting.kind.expected,
                "required" if setting.required else _default(setting.default),
                setting.meaning,
                f"`{setting.variable}`" if setting.variable else "",
            )
            for setting in SETTINGS
            if setting.path[0] == section
        ]
        columns = ("key", "value", "default", "meaning", "environment variable")
        keep = 5 if any(row[4] for row in rows) else 4
        parts.append(f"## `{title}`\n\n{_table(columns[:keep], [row[:keep] for row in rows])}")
    return "\n".join(parts)


def error_tree() -> str:
    """Return the tree as it is drawn in the module's docstring."""
    import insource.errors

    lines = (insource.errors.__doc__ or "").splitlines()
    drawn = [line[4:] for line in lines if line.startswith("    ")]
    return "```text\n" + "\n".join(line.rstrip() for line in drawn) + "\n```\n"


def error_table() -> str:
    """Return every error with its code, statuses, and what it advises."""
    from insource.errors import InsourceError

    rows = []
    for kind in _subclasses(InsourceError):
        retry = "yes" if kind.retryable else "no"
        told = inspect.getdoc(kind) or ""
        rows.append((f"`{kind.__name__}`", f"`{kind.code}`", kind.status, retry, kind.exit_code, told, kind.hint))
    return _table(("error", "code", "HTTP status", "retryable", "exit code", "meaning", "hint"), rows)


def traffic_shapes() -> str:
    """Return the shapes in the order in which they are tried."""
    from insource.traffic.shapes import SHAPES

    return _table(
        ("shape", "form"), [(shape.name, " ".join((inspect.getdoc(shape.parts) or "").split())) for shape in SHAPES]
    )


def routes() -> str:
    """Return methods and paths of the gateway."""
    from insource.gateway.app import create_app

    return _table(("method", "path"), [(method, f"`{path}`") for method, path in create_app(None).paths])  # type: ignore[arg-type]


def honoured_fields() -> str:
    """Return the fields with which a specialist may still answer, by dialect."""
    from insource.cascade.honoured import HONOURED

    rows = [
        (
            dialect,
            ", ".join(f"`{name}`" for name in sorted(each.always)),
            ", ".join(f"`{n}`" for n in sorted(each.within)),
        )
        for dialect, each in HONOURED.items()
    ]
    return _table(("dialect", "with any value", "with the value that asks for nothing special"), rows)


def metrics() -> str:
    """Return the metrics and their labels."""
    from insource.gateway.metrics import TABLE

    rows = [
        (f"`{name}`", each.kind.__name__.lower(), ", ".join(f"`{label}`" for label in each.labels), each.says)
        for name, each in TABLE.items()
    ]
    return _table(("metric", "kind", "labels", "meaning"), rows)


def span_attributes() -> str:
    """Return the attributes of spans, with the labels of metrics that say the same."""
    from insource.gateway.names import NAMES

    rows = [
        (f"`{name.opentelemetry}`", f"`{name.prometheus}`" if name.prometheus else "", name.says)
        for name in NAMES.values()
        if name.attribute and name.opentelemetry
    ]
    return _table(("attribute", "metric or label", "meaning"), rows)


def convention_metrics() -> str:
    """Return the metrics for which the GenAI conventions have a name."""
    from insource.gateway.names import NAMES

    rows = [(f"`{name.prometheus}`", f"`{name.opentelemetry}`") for name in NAMES.values() if not name.attribute]
    return _table(("metric", "in the conventions"), rows)


def ledger_schema() -> str:
    """Return the ledger's tables."""
    from insource.store.ledger_schema import (
        DRIFT,
        EVIDENCE_AND_FEEDBACK,
        HEADS,
        KEY,
        LEDGER_TABLES,
        SEALED_CONTENTS,
        SEALED_INSTEAD,
        TIER_AND_SENSITIVITY,
    )

    return _sql(LEDGER_TABLES, TIER_AND_SENSITIVITY, EVIDENCE_AND_FEEDBACK, DRIFT, KEY, HEADS, SEALED_CONTENTS,
                SEALED_INSTEAD)  # fmt: skip


def registry_schema() -> str:
    """Return the registry's tables."""
    from insource.store.registry_row_digests import ROW_DIGESTS, ROW_DIGESTS_STAY
    from insource.store.registry_schema import (
        DOUBTS,
        KEYS,
        OUTBOX,
        PURCHASES,
        RECERTIFICATIONS,
        REGISTRY_TABLES,
        REVIEW_TABLES,
        SEALED_INSTEAD,
        SEALED_REVIEWS,
        STAGES,
    )

    first = (REGISTRY_TABLES, REVIEW_TABLES, STAGES, OUTBOX, DOUBTS, PURCHASES, RECERTIFICATIONS, KEYS)
    return _sql(*first, ROW_DIGESTS, ROW_DIGESTS_STAY, SEALED_REVIEWS, SEALED_INSTEAD)


def _sql(*steps: str) -> str:
    told = "\n\n".join(step.strip() for step in steps)
    return f"```sql\n{told}\n```\n"


BLOCKS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "settings": settings,
    "error-tree": error_tree,
    "error-table": error_table,
    "traffic-shapes": traffic_shapes,
    "routes": routes,
    "honoured-fields": honoured_fields,
    "metrics": metrics,
    "span-attributes": span_attributes,
    "convention-metrics": convention_metrics,
    "ledger-schema": ledger_schema,
    "registry-schema": registry_schema,
}


def made(page: str) -> str:
    """Return a page with its generated parts made anew; KeyError for a part nobody makes."""
    return BLOCK.sub(lambda found: f"{found[1]}{BLOCKS[found[2]]().strip()}\n{found[3]}", page)


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or with `--check` say which are out of date."""
    stale = []
    for path in sorted(FOLDER.glob("*.md")):
        before = path.read_text("utf-8")
        after = made(before)
        if after != before:
            stale.append(path.name)
            if "--check" not in arguments:
                path.write_text(after, "utf-8")
    told = "out of date: " if "--check" in arguments else "made anew: "
    sys.stdout.write(f"{told}{', '.join(stale)}\n" if stale else "the reference is up to date\n")
    return 1 if stale and "--check" in arguments else 0


def _paths(name: str) -> list[list[str]]:
    import click

    from insource.cli.main import cli

    command = cli.get_command(click.Context(cli), name)
    inner = sorted(command.commands) if isinstance(command, click.Group) else []
    return [[name], *([name, each] for each in inner)]


def _help(names: list[str]) -> str:
    from click.testing import CliRunner

    from insource.cli.main import cli

    return CliRunner().invoke(cli, [*names, "--help"], prog_name="insource", terminal_width=WIDTH).stdout.strip()


def _subclasses(kind: type[InsourceError]) -> Iterable[type[InsourceError]]:
    yield kind
    for inner in kind.__subclasses__():
        yield from _subclasses(inner)


def _default(value: object) -> str:
    return "not set" if value is None or value == () else f"`{value}`"


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [_row(columns), _row(["---"] * len(columns)), *(_row(row) for row in rows)]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(re.sub(r"(?<!\\)\|", r"\\|", str(cell)) for cell in cells) + " |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
