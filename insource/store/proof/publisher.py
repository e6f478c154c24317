"""What follows the commits: tiles, signed checkpoints and the witness's copy, on a thread of its own.

It knows the tree's hashes and files. Nothing here is waited for: rows are durable and provable without it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from insource.errors import StoreError
from insource.store import migrations
from insource.store.database import open_database
from insource.store.proof.folder import ProofFolder, read_note, write_note
from insource.store.proof.note import Checkpoint, PrivateKey
from insource.store.proof.standing import Known, objections
from insource.store.proof.stored import leaves_of
from insource.store.proof.tiles import Hashes, TileWriter, whole_tiles
from insource.store.proof.tree import Frontier

LOG = logging.getLogger("insource.store")
SECONDS = 1.0
AGAIN_SECONDS = 30.0
KEEP_SECONDS = 3_600.0
"""How often a checkpoint is kept for good; the last one of each process always is."""


class Publisher:
    """Publishes the tree of the ledger at `path` from `frontier` on; `witness` is a file outside the home.

    `tell` takes, on this thread, why nothing is signed any more.
    """

    def __init__(self, folder: ProofFolder, path: Path, key: PrivateKey, frontier: Frontier, witness: Path | None,
                 tell: Callable[[str], None], seconds: float = SECONDS) -> None:  # fmt: skip
        self._folder, self._path, self._key, self._witness = folder, path, key, witness
        self._tell, self._seconds = tell, seconds
        self._frontier, self._pending = frontier, list[bytes]()
        self._signed = 0
        self._shown = {None, None if witness is None else read_note(witness)}
        self._owed: str | None = None
        self._writer: TileWriter | None = None
        self._kept = float("-inf")
        self._news, self._closing = threading.Condition(), threading.Event()
        self.refusal: str | None = None
        self.trouble: str | None = None
        self._thread = threading.Thread(target=self._run, name="insource-proof", daemon=True)

    def start(self) -> None:
        """Begin; the first checkpoint of a log is signed on return, so that no log is without one."""
        if self._folder.checkpoint() is None:
            self._round()
        self._thread.start()

    def grow(self, hashes: list[bytes], frontier: Frontier) -> None:
        """Take the leaves of a commit, and the frontier after it; called by the writer's thread."""
        with self._news:
            if self.refusal is None:
                self._pending += hashes
                self._frontier = frontier
                self._news.notify()

    def close(self) -> None:
        """Publish what is left, and end the thread."""
        self._closing.set()
        with self._news:
            self._news.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while self.refusal is None:
            with self._news:
                self._news.wait_for(lambda: self._frontier.size > self._signed or self._closing.is_set(),
                                    AGAIN_SECONDS if self.trouble else None)  # fmt: skip
            self._closing.wait(self._seconds)
            last = self._closing.is_set()
            if not self._round(last):
                self._closing.wait(AGAIN_SECONDS)
            if last:
                return

    def _round(self, last: bool = False) -> bool:
        """Publish what came since the round before, and say whether that was possible."""
        with self._news:
            hashes, self._pending, frontier = self._pending, [], self._frontier
        try:
            if frontier.size > self._signed or last:
                self._publish(hashes, frontier, last)
            self._say(self._show())
        except Exception as error:  # whatever it is, rows are recorded and the next try begins anew
            self._say(f"the tree of proofs cannot be published: {error}")
            self._writer = None
            return False
        return True

    def _publish(self, hashes: list[bytes], frontier: Frontier, last: bool) -> None:
        if self._writer is None:
            self._writer = self._tiles_up_to(frontier.size)
        else:
            self._writer.push(hashes)
        self._writer.partial()
        if (why := self._witness_says(frontier)) is not None:
            self._refuse(why)
            return
        note = self._key.sign(Checkpoint(self._key.name, frontier.size, frontier.root()).body())
        keep = last or time.monotonic() >= self._kept + KEEP_SECONDS
        self._owed = None if self._witness is None else note
        self._show()  # before the home: else a copy of a moment ago, put back now, would know of nothing that it forks
        self._folder.keep(note, for_good=keep)
        self._signed = frontier.size
        if keep:
            self._kept = time.monotonic()

    def _show(self) -> str | None:
        """Write the last checkpoint to the witness if it is not there yet; return what is in the way."""
        if self._witness is None or self._owed is None:
            return None
        try:
            if not self._witness.parent.is_dir():  # where its disk is not mounted, a folder would only hide that
                return f"the witness {self._witness} cannot be written: its folder is not there"
            self._shown.add(self._owed)
            write_note(self._witness, self._owed)
        except StoreError as error:
            return f"the witness {self._witness} cannot be written: {error}"
        self._shown, self._owed = {None, self._owed}, None
        return None

    def _refuse(self, why: str) -> None:
        self.refusal, self._owed = why, None
        LOG.error("the tree of proofs is not signed any more: %s", why)
        self._tell(why)
        self._folder.refuse(why)

    def _say(self, trouble: str | None) -> None:
        """Tell of a trouble once, when it begins, and when it is over."""
        began = trouble is not None and self.trouble is None
        ended = trouble is None and self.trouble is not None
        self.trouble = trouble
        if began:
            LOG.error("%s; it is tried again", trouble)
        if began or ended:
            with suppress(StoreError):  # the log has it
                self._folder.tell_trouble(trouble)

    def _tiles_up_to(self, size: int) -> TileWriter:
        """Write the whole tiles that are missing or half, and return the writer of what comes after."""
        connection = open_database(self._path, migrations=migrations.LEDGER, read_only=True)
        try:
            hashes = Hashes(self._folder.tiles, leaves_of(connection, self._path), size)
            for level, number in whole_tiles(size):
                if not self._folder.tiles.whole(level, number):
                    self._folder.tiles.write(level, number, hashes.made(level, number))
            return TileWriter(self._folder.tiles, size, hashes)
        finally:
            connection.close()

    def _witness_says(self, frontier: Frontier) -> str | None:
        """Return what speaks against signing where the witness holds a note that was not written from here."""
        if self._witness is None:
            return None
        if (note := read_note(self._witness)) in self._shown:
            self._shown = {None, note}
            return None
        connection = open_database(self._path, migrations=migrations.LEDGER, read_only=True)
        try:
            hashes = Hashes(self._folder.tiles, leaves_of(connection, self._path), frontier.size)
            key = self._key.public()
            known = Known({f"the witness {self._witness}": note or ""}, key, str(key))
            found = objections(known, frontier.size, lambda size: Frontier.at(size, hashes.subtree).root())
            return "; ".join(found) or None
        finally:
            connection.close()
