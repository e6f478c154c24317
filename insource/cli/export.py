"""`insource export`: a version as a folder that runs without insource, in Python and in a browser.

It opens what is needed and shows the outcome; writing and checking are `training.export`'s business.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from insource.cli.output import emit, json_option

if TYPE_CHECKING:
    from rich.console import Console

    from insource.training.export import Exported

_EPILOG = "\b\nExample:\n  insource export triage@2 --to triage-2 --web"


@click.command(epilog=_EPILOG)
@click.argument("name", metavar="NAME[@V]")
@click.option("--to", "folder", required=True, type=click.Path(path_type=Path), metavar="DIR",
              help="The folder to write; new, or empty.")  # fmt: skip
@click.option("--web", is_flag=True,
              help="Add a page that answers in a browser; npm fetches its runtime (33 MB; static: none).")  # fmt: skip
@click.option("--web-runtime", type=click.Path(path_type=Path), metavar="DIR",
              help="The page with this copy of the runtime: onnxruntime-web's folder dist.")  # fmt: skip
@json_option
@click.pass_context
def command(
    ctx: click.Context, name: str, folder: Path, web: bool, web_runtime: Path | None, json_path: str | None
) -> None:
    """Write a version into DIR, to run there without insource and without a network.

    DIR gets the model, its tokenizer, answers and threshold, run.py, and with --web a page. It appears whole or not at
    all, once its own run.py has given the scores that serving gives.
    """
    from insource.cli.opening import configuration, find_version, open_artifacts, open_registry
    from insource.cli.progress import Bars
    from insource.training.export import export
    from insource.training.exporting.web_runtime import web_runtime as find_runtime

    config = configuration(ctx)
    with Bars() as bars:
        with open_registry(config) as registry:
            version = find_version(registry, name)

        def runtime() -> Path:
            return find_runtime(config.home / "cache", web_runtime, bars.say("fetching onnxruntime-web"))

        wanted = runtime if web or web_runtime is not None else None
        exported = export(version, folder, artifacts=open_artifacts(config), runtime=wanted, say=bars.say)
    emit(_result(exported), json_path, lambda console: _show(console, exported))


def _result(exported: Exported) -> dict[str, Any]:
    version = exported.version
    return {
        "task": version.task,
        "version": version.version,
        "family": version.family,
        "folder": exported.folder,
        "threshold": version.calibration.threshold if version.calibration else None,
        "base_licence": exported.licence,
        "size_bytes": exported.size_bytes,
        "files": exported.files,
        "checked": {"texts": exported.checked, "largest_difference": exported.difference},
    }


def _show(console: Console, exported: Exported) -> None:
    from insource.cli.output import table

    version, folder = exported.version, exported.folder
    threshold = version.calibration.threshold if version.calibration else None
    rows = [
        ("family", version.family),
        ("files", ", ".join(exported.files)),
        ("size", f"{exported.size_bytes / 1e6:.1f} MB"),
        ("threshold", "none: it accepts nothing" if threshold is None else f"{threshold:.4f}"),
        ("needs", f"Python with {', '.join(exported.packages)}"),
        ("checked", f"{exported.checked} texts: answered as in serving, scores within {exported.difference:.1e}"),
    ]
    if exported.licence is not None:
        rows.append(("licence of the base", exported.licence))
    console.print(table(f"{version.name} in {folder}", ("", ""), rows))
    console.print(f'Next: python {folder / "run.py"} "a text"')
    if "index.html" in exported.files:
        console.print(f"      python -m http.server --bind 127.0.0.1 --directory {folder} 8000")
