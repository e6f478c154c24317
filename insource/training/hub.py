"""Base models by hub id: which files one has, where they lie once they are here, and how they get here.

What is on this machine already (the hub's own cache, or ours, laid out alike) is used without a network. It knows no
graph and no pooling; a file counts only when it has the digest that was told before it came.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from insource.backends.model_files import LARGEST_TEXT, parse_json, read_plain
from insource.errors import FetchError, UserError
from insource.training.fetch import Progress, digest_of

NEEDED_FILES = ("config.json", "model.safetensors", "tokenizer.json")
READ_FILES = ("1_Pooling/config.json", "sentence_bert_config.json")
"""What is fetched as well where a model has it."""
NOTE = "hub.json"
ENDPOINT = "https://huggingface.co"
_PART = r"[A-Za-z0-9](?:[\w.-]{0,94}[\w-])?"
_ID = re.compile(rf"(?P<name>{_PART}/{_PART})(?:@(?P<revision>[\w.-]+(?:/[\w.-]+)*))?", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
_YES = ("1", "true", "yes", "on")


@dataclass(frozen=True, slots=True)
class HubId:
    """A model on a hub: ORG/NAME, and a branch, tag or commit of it."""

    name: str
    revision: str = "main"

    @property
    def room(self) -> str:
        """The name of its folder in a cache."""
        return "models--" + self.name.replace("/", "--")

    def __str__(self) -> str:
        return self.name if self.revision == "main" else f"{self.name}@{self.revision}"


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model of a hub as it lies on this machine: its folder, and the commit that it is."""

    name: str
    commit: str
    folder: Path
    licence: str | None = None

    def __str__(self) -> str:
        return f"{self.name}@{self.commit}"


def hub_id(text: str) -> HubId | None:
    """Read ORG/NAME or ORG/NAME@REVISION; None for what is no such id."""
    found = _ID.fullmatch(text)
    if found is None or ".." in text or "--" in found["name"]:
        return None
    return HubId(found["name"], found["revision"] or "main")


def hub_model(wanted: HubId, *, cache: Path, progress: Progress | None = None) -> HubModel:
    """Return a model that is in the hub's own cache or in `cache`, or else fetched from $HF_ENDPOINT into `cache`.

    A branch that is here stays at the commit that it was at when it came. Raises FetchError where the model cannot be
    had or its bytes are not those that the hub told of, UserError where the hub has no such model or none that can be
    used. `progress` gets (bytes so far, bytes in all). A fetch that was cut off, by a kill too, leaves nothing that
    could be loaded; the next one goes on from there.
    """
    ours = cache / "hub"
    found = held(hub_cache(), wanted) or held(ours, wanted, ours=True)
    if found is not None:
        return found
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in _YES:
        raise FetchError(
            f"{wanted} is not on this machine, and HF_HUB_OFFLINE forbids to fetch it. {way_round(wanted)}"
        )
    from insource.training.hub_fetch import fetch

    with _alone(ours / wanted.room) as room:
        return held(ours, wanted, ours=True) or fetch(wanted, room, progress)


def hub_cache() -> Path:
    """Return where the hub's own libraries keep what they fetched."""
    if told := os.environ.get("HF_HUB_CACHE"):
        return Path(told)
    if told := os.environ.get("HF_HOME"):
        return Path(told) / "hub"
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "huggingface" / "hub"


def held(hub: Path, wanted: HubId, *, ours: bool = False) -> HubModel | None:
    """Return a model from a cache; None where it is not there whole and as it came.

    In `ours` our own note tells how it came; elsewhere a file of that name is the model's own, and vouches for nothing.
    """
    room = hub / wanted.room
    try:
        commit = wanted.revision
        if not COMMIT.fullmatch(commit):
            commit = read_plain(room / "refs" / commit, 100).decode("ascii").strip()
        folder = room / "snapshots" / commit
        if not COMMIT.fullmatch(commit) or not all((folder / file).is_file() for file in NEEDED_FILES):
            return None
        note = parse_json(read_plain(folder / NOTE, LARGEST_TEXT)) if ours else {}
        if not (_as_noted(folder, note) if ours else _as_named(folder)):
            return None
    except (OSError, ValueError):
        return None
    licence = note.get("licence")
    return HubModel(wanted.name, commit, folder, licence if type(licence) is str else None)


def keep(folder: Path, room: Path, wanted: HubId, model: HubModel) -> HubModel:
    """Make a folder of whole files a model of the cache: first a note of their digests, then the name, then the ref."""
    files = [file for file in (*NEEDED_FILES, *READ_FILES) if (folder / file).is_file()]
    note = {"id": model.name, "commit": model.commit, "licence": model.licence}
    digests = {file: digest_of(folder / file) for file in files}
    (folder / NOTE).write_text(json.dumps(note | {"sha256": digests}, indent=1) + "\n", "utf-8")
    shutil.rmtree(model.folder, ignore_errors=True)
    model.folder.parent.mkdir(parents=True, exist_ok=True)
    os.rename(folder, model.folder)
    if wanted.revision != model.commit:
        ref = room / "refs" / wanted.revision
        ref.parent.mkdir(parents=True, exist_ok=True)
        draft = room / "ref.draft"
        draft.write_text(model.commit, "ascii")
        os.replace(draft, ref)
    return model


def way_round(wanted: HubId) -> str:
    """Say what to do where there is no way to the hub."""
    return (
        f"On a machine with a network, download {', '.join(NEEDED_FILES)} (and {READ_FILES[0]} where it has one) of "
        f"{wanted} into one folder, copy it here and name that: --base FOLDER. Or set HF_ENDPOINT to a mirror in the "
        "house."
    )


def unusable(wanted: HubId, why: str, what_to_do: str) -> UserError:
    """Return the error for a model that is on the hub and cannot be used."""
    return UserError(f"{wanted} {why}; {', '.join(NEEDED_FILES)} were expected. Nothing was fetched. {what_to_do}")


def _as_noted(folder: Path, note: dict[str, object]) -> bool:
    """Whether files have the digests that were noted as they came."""
    told = note.get("sha256")
    if not isinstance(told, dict) or not set(NEEDED_FILES) <= told.keys():
        return False
    return all(digest_of(folder / file) == told[file] for file in told)


def _as_named(folder: Path) -> bool:
    """Whether files have the digests that name their blobs in the hub's own cache."""
    for path in (folder / file for file in NEEDED_FILES):
        blob = Path(os.path.realpath(path)).name
        if len(blob) == 64 and digest_of(path) != blob or len(blob) == 40 and git_digest_of(path) != blob:
            return False
    return True


def git_digest_of(path: Path) -> str:
    """The digest under which git, and so the hub, knows a small file."""
    data = read_plain(path, 2**31, links=True)
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@contextmanager
def _alone(room: Path) -> Iterator[Path]:
    """Wait until nobody else fetches this model; what the disk refuses is a FetchError."""
    try:
        room.mkdir(parents=True, exist_ok=True)
        with (room / ".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield room
    except OSError as error:
        raise FetchError(
            f"{room} cannot be written ({error}); expected a folder with room in it. Free some space or choose "
            "another INSOURCE_HOME."
        ) from error
