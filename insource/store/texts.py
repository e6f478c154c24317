"""What the ledger's readers see of the texts: a view over the sealed rows, opened as far as their keys are there.

It knows one connection and the home's keys; what a text is for is the reader's business.
"""

from __future__ import annotations

import logging
from pathlib import Path

import apsw

from insource.errors import ArtifactDamaged
from insource.store.content_keys import FILE, ContentKeys
from insource.store.contents import opened

LOG = logging.getLogger("insource.store")
PARTS = ("salt", "text", "answer", "reference")
OPENED = ", ".join(f"opened(seq, {at}, {part}, subject, day) AS {part}" for at, part in enumerate(PARTS))
VIEW = f"CREATE TEMP VIEW texts AS SELECT seq, {OPENED}, time, task, expires, subject, day FROM contents"


def show_texts(connection: apsw.Connection, home: Path) -> None:
    """Give a connection that only reads the view `texts`: columns as `contents` has them, salt and texts opened.

    They are NULL where a key was destroyed, and where the bytes were altered, which the log tells.
    """
    connection.create_scalar_function("opened", _Opener(home), 5)
    connection.execute("PRAGMA query_only = OFF")  # of this connection's own, temporary schema
    connection.execute(VIEW)
    connection.execute("PRAGMA query_only = ON")


class _Opener:
    def __init__(self, home: Path) -> None:
        self._home = home
        self._keys: ContentKeys | None = None

    def __call__(self, *row: apsw.SQLiteValue) -> bytes | None:
        seq, at, sealed, subject, day = row
        if not (isinstance(sealed, bytes) and isinstance(seq, int) and isinstance(at, int) and isinstance(day, bytes)):
            return None
        keys = self._opened()
        if keys is None:
            return None
        keys.look()
        try:
            return opened(keys, seq, at, sealed, subject if isinstance(subject, bytes) else None, day)
        except ArtifactDamaged as error:
            LOG.error("the text of row %s of the ledger is left out: %s Run `insource audit verify`", seq, error)
            return None

    def _opened(self) -> ContentKeys | None:
        """Return the keys; none as long as their file is not there."""
        if self._keys is None and (self._home / FILE).is_file():
            self._keys = ContentKeys.open(self._home, read_only=True)
        return self._keys
