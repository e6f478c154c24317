"""The house's layering (DESIGN, section 3), by a scan of every import statement and in fresh interpreters.

Imports inside functions and under TYPE_CHECKING count as well: a room that names another one knows it.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import insource

ROOT = Path(insource.__file__).parent
EVERYONE = {"errors", "types"}
NOUNS = {"config", "traffic", "inputs", "answers"}
BELOW_CASCADE = {"policy", "backends", "config", "inputs", "answers", "risk"}
BELOW_LIFECYCLE = {"training", "cascade", "store", "traffic", *BELOW_CASCADE}

ALLOWED = {
    "errors": set(),
    "types": set(),
    "config": set(),
    "traffic": set(),
    "inputs": set(),
    "answers": set(),
    "risk": set(),
    "store": set(),
    "backends": {"config", "inputs", "answers", "risk"},  # risk: the scorer is part of what is served
    "policy": {"backends", "config"},
    "cascade": BELOW_CASCADE,
    "training": {"store", "traffic", *BELOW_CASCADE},
    "lifecycle": BELOW_LIFECYCLE,
    "pipelines": {"store", "cascade", "policy", "backends", "config"},
    "governance": {"store", "cascade", "policy", "backends", "config"},
    "gateway": {"governance", "pipelines", "cascade", "store", "traffic", *BELOW_CASCADE},
    "python_api": {"cli", "gateway", "governance", "pipelines", "lifecycle", *BELOW_LIFECYCLE},
    "cli": {"python_api", "gateway", "governance", "pipelines", "lifecycle", *BELOW_LIFECYCLE},
    "__init__": {"python_api"},
}

PLACES = {
    "apsw": ["store/*", "cli/checks/machine.py"],
    "click": ["cli/*"],
    "cryptography": ["store/proof/note.py", "store/content_keys.py"],
    "httptools": ["backends/http1*.py", "gateway/protocol.py"],
    "matplotlib": ["cli/*", "governance/*"],
    "msgspec": ["*"],
    "numpy": ["risk/*", "backends/*", "training/*", "lifecycle/*", "governance/*", "cli/*", "python_api.py"],
    "onnx": ["training/encoder_graph*.py", "training/encoder_weights.py"],
    "onnxruntime": ["backends/onnx.py", "backends/model_child.py"],
    "openai": ["cli/demo*.py"],
    "opentelemetry": ["gateway/spans.py"],
    "platformdirs": ["config/building.py"],
    "prometheus_client": ["gateway/metrics.py"],
    "rich": ["cli/*"],
    "safetensors": ["backends/*", "training/*"],
    "scipy": ["risk/*", "training/*"],
    "scipy.sparse": ["training/*"],
    "starlette": ["gateway/*", "backends/scripted_app.py", "cli/serve*.py"],
    "threadpoolctl": ["training/*", "lifecycle/*", "cli/*"],
    "torch": ["training/tuning/*"],
    "tokenizers": ["backends/onnx.py", "backends/model_child.py"],
    "uvloop": ["gateway/control.py"],
    "uvicorn": ["gateway/*", "cli/serve*.py"],
}
NEVER = {"pickle", "shelve", "marshal", "dbm", "sqlite3", "urllib.request", "http.client"}
"""Nothing is ever unpickled; SQLite is APSW's; nothing goes out but through policy."""
APART = "governance/verifier/verify_ledger.py"
"""The second implementation, which runs by itself: Python's own library, its sqlite3 to read, and nothing of ours."""


def modules(root: Path) -> dict[str, Path]:
    """Every module below `root`, by its dotted name."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = [root.name, *path.relative_to(root).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, name: str) -> frozenset[str]:
    """Every module that a file imports, dotted; for `from x import y` both x and x.y."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    return imported_by(path.read_text("utf-8"), tuple(package))


@cache
def imported_by(source: str, package: tuple[str, ...]) -> frozenset[str]:
    return frozenset(import_names(ast.parse(source), package))


def import_names(tree: ast.Module, package: tuple[str, ...]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            source = ".".join(part for part in (start, node.module) if part)
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.args[0].value


def room_of(name: str) -> str:
    """The room of a module: the part below the package's name; "__init__" for the package itself."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def room_violations(root: Path) -> list[str]:
    """Every import of a room that the importing room may not know."""
    known = modules(root)
    rooms = {room_of(name) for name in known}
    found = []
    for name, path in known.items():
        here = room_of(name)
        for target in sorted(imports(path, name)):
            there = room_of(target)
            if target.split(".")[0] != root.name or there not in rooms or there in (here, "__init__"):
                continue
            if there not in ALLOWED.get(here, set()) | (EVERYONE if here not in EVERYONE else set()):
                found.append(f"{path.relative_to(root)} imports {target}")
    return found


def package_violations(root: Path) -> list[str]:
    """Every import of a third-party package, or of a forbidden module, outside the files named for it."""
    found = []
    for name, path in modules(root).items():
        where = path.relative_to(root).as_posix()
        for target in sorted(imports(path, name)):
            top = target.split(".")[0]
            if top == root.name:
                continue
            if (where, top) != (APART, "sqlite3") and any(target == never or target.startswith(never + ".")
                                                          for never in NEVER):  # fmt: skip
                found.append(f"{where} imports {target}, which nobody may")
            if top in sys.stdlib_module_names:
                continue
            named = next((key for key in (".".join(target.split(".")[:2]), top) if key in PLACES), None)
            if named is None or not any(fnmatch(where, place) for place in PLACES[named]):
                found.append(f"{where} imports {target}")
    return found


def test_every_room_keeps_to_the_layers():
    assert room_violations(ROOT) == []


def test_packages_are_imported_in_the_files_named_for_them():
    assert package_violations(ROOT) == []


def test_the_verifier_for_strangers_stands_apart():
    path = ROOT / APART
    found = {target.split(".")[0] for target in imports(path, "insource.governance.verifier.verify_ledger")}
    assert found and found <= set(sys.stdlib_module_names)
    assert "mode=ro" in path.read_text("utf-8")


def test_the_scan_sees_what_there_is():
    """A scan that finds nothing would pass every test."""
    seen = {(path.relative_to(ROOT).as_posix(), target) for name, path in modules(ROOT).items()
            for target in imports(path, name)}  # fmt: skip
    assert len(seen) > 500
    assert ("gateway/generation.py", "insource.policy.egress") in seen
    assert ("backends/onnx.py", "onnxruntime") in seen  # inside a function
    assert ("cli/opening.py", "insource.config.Config") in seen  # under TYPE_CHECKING


def test_the_table_names_every_room_and_no_room_that_is_gone():
    rooms = {room_of(name) for name in modules(ROOT)}
    assert rooms - ALLOWED.keys() == set()
    assert ALLOWED.keys() - rooms <= {"pipelines", "python_api"}


def test_the_layers_have_no_circle():
    graph = {room: targets - {"cli"} if room == "python_api" else targets for room, targets in ALLOWED.items()}
    graph["cli"] = graph["cli"] - {"python_api"}  # either may use the other; no other pair may
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(("one", "other"), [
    ("governance", "pipelines"), ("cascade", "training"), ("gateway", "training"), ("gateway", "lifecycle"),
    ("gateway", "cli"), ("risk", "types"), ("store", "config"),
])  # fmt: skip
def test_these_never_know_each_other(one, other):
    assert other not in ALLOWED[one]


def test_only_the_doors_import_lifecycle():
    assert {room for room, targets in ALLOWED.items() if "lifecycle" in targets} == {"cli", "python_api"}


@pytest.mark.parametrize("statement", [
    "from insource.store import registry", "import insource.store.registry as r", "from insource import store",
    "from ..store import registry", "def f():\n    from insource.store.registry import Registry",
    "if TYPE_CHECKING:\n    from insource.store.registry import Registry",
    "import importlib\nimportlib.import_module('insource.store.registry')", "__import__('insource.store')",
])  # fmt: skip
def test_a_forbidden_room_is_caught_in_every_form(tmp_path, statement):
    root = house(tmp_path, {"risk/bounds.py": statement, "store/registry.py": "", "store/__init__.py": ""})
    assert room_violations(root)
    (root / "risk/bounds.py").write_text("from insource.errors import DataError\nfrom ..types import Task\n")
    assert room_violations(root) == []


@pytest.mark.parametrize(("file", "statement"), [
    ("gateway/app.py", "import onnxruntime"), ("training/x.py", "from tokenizers import Tokenizer"),
    ("config/x.py", "import numpy as np"), ("backends/linear.py", "from scipy import sparse"),
    ("cli/x.py", "import torch"), ("store/x.py", "import pickle"), ("store/x.py", "from urllib import request"),
    ("risk/x.py", "def f():\n    import scipy.sparse"), ("backends/onnx_more.py", "import onnxruntime.tools"),
])  # fmt: skip
def test_a_package_out_of_its_place_is_caught(tmp_path, file, statement):
    root = house(tmp_path, {file: statement})
    assert package_violations(root)


def house(folder: Path, files: dict[str, str]) -> Path:
    """Write a small house of the given files, with errors and types."""
    root = folder / "insource"
    for name, text in {"__init__.py": "", "errors.py": "", "types.py": "", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_every_folder_is_a_package_that_says_what_it_is():
    folders = {path.parent for path in ROOT.rglob("*.py")}
    missing = [str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").is_file()]
    assert missing == []
    silent = [name for name, path in modules(ROOT).items() if not ast.get_docstring(ast.parse(path.read_text("utf-8")))]
    assert silent == []


def test_no_two_modules_import_each_other():
    """Statements that run at import only; what a function imports later closes no circle."""
    known = modules(ROOT)
    graph = {name: {target for target in top_level(path) if target in known and target != name}
             for name, path in known.items()}  # fmt: skip
    assert len(list(TopologicalSorter(graph).static_order())) == len(known)


def top_level(path: Path) -> set[str]:
    """The modules that a file imports while it is imported itself."""
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def closure(room: str) -> set[str]:
    """The rooms that importing a room may load."""
    found, open_ = {room, *EVERYONE, "__init__"}, [room]
    while open_:
        for target in ALLOWED[open_.pop()] - found:
            found.add(target)
            open_.append(target)
    return found


@cache
def rooms_loaded(room: str) -> set[str]:
    """Import every module of a room in a fresh interpreter and return the rooms it then holds."""
    names = [name for name in modules(ROOT) if room_of(name) == room]
    code = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
        "print(' '.join(name for name in sys.modules if name.partition('.')[0] == 'insource'))"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {room_of(name) for name in done.stdout.split()}


@pytest.mark.parametrize("room", sorted({room_of(name) for name in modules(ROOT)} - {"cli", "python_api", "__init__"}))
def test_a_fresh_interpreter_loads_no_more_than_the_layers_allow(room):
    loaded = rooms_loaded(room)
    assert room in loaded
    assert loaded - closure(room) == set()


def test_the_fresh_interpreter_sees_rooms_that_come_along():
    assert "backends" in rooms_loaded("cascade")
