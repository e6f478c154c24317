"""The tree beside the writer: it grows with each commit, is compared at the start, and is signed only if it extends.

It runs on the writer's thread and within its transactions; what follows behind them is the publisher's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw

from insource.errors import StoreError
from insource.store.columns import Values
from insource.store.proof.folder import ProofFolder, read_note, write_note
from insource.store.proof.leaf import leaf
from insource.store.proof.note import Checkpoint, PrivateKey, PublicKey
from insource.store.proof.publisher import Publisher
from insource.store.proof.standing import Known, objections
from insource.store.proof.stored import PAGE, leaves_of
from insource.store.proof.succession import KEY_ACT, RECONCILE_ACT, named_keys
from insource.store.proof.tiles import Hashes
from insource.store.proof.tree import Frontier, leaf_hash
from insource.store.sync import translated_files

LOG = logging.getLogger("insource.store")
LAST_HEAD = "SELECT size, root FROM heads ORDER BY size DESC LIMIT 1"
ADD_HEAD = "INSERT INTO heads (size, root) VALUES (?, ?)"
NOT_SIGNED_ACT, NOT_SIGNED = "not signed", "proofs not signed: "
LAST_WORD = f"""
SELECT CAST(detail AS BLOB) FROM acts
WHERE (what IN ('start', '{NOT_SIGNED_ACT}') AND who = 'insource') OR what = '{RECONCILE_ACT}' ORDER BY seq DESC LIMIT 1
"""
MANY_ROWS = 50_000

Write = Callable[[str, str, str, str | None], Any]
"""Records an act: who, what, subject, detail; returns once it is durable."""
Tell = Callable[[str], None]
"""Takes why nothing is signed any more, where that is found while running; on the publisher's thread."""


class Keeper:
    """The tree of one ledger. Make it on the writer's thread with `last`, the number of the last row."""

    def __init__(self, home: Path, path: Path, connection: apsw.Connection, last: int, witness: Path | None) -> None:
        self._path, self._connection, self._witness = path, connection, witness
        self._folder = ProofFolder(home)
        self._publisher: Publisher | None = None
        self._key: PrivateKey | None = None
        self._following: PrivateKey | None = None
        self._tell: Tell = lambda why: None
        self._announced = next((key for _, key in reversed(named_keys(connection))), None)
        self._objections = self._carried()
        self._troubles: tuple[str, ...] = ()
        head = connection.execute(LAST_HEAD).fetchone()
        self.frontier = self._first(last) if head is None else self._stand_up(last, *head)
        self._before = last if head is None else 0

    @property
    def refusal(self) -> str | None:
        """Why nothing is signed, None while nothing speaks against it."""
        found = "; ".join((*self._objections, *self._troubles)) or None
        return found or (self._publisher.refusal if self._publisher is not None else None)

    @property
    def key(self) -> PublicKey | None:
        """The key that signs, None where there is none."""
        return None if self._key is None else self._key.public()

    def ready(self) -> str:
        """Return what the act of the start is to say of the proofs; a first key is made for it."""
        if self.refusal is None:
            self._try(self._ready_key)
        if self._objections:
            return f"{NOT_SIGNED}{'; '.join(self._objections)}"
        if self._troubles or self._key is None:
            return f"proofs not written: {self.refusal}"
        before = f"rows 1 to {self._before} were written before there were proofs, " if self._before else ""
        return f"{before}{KEY_ACT} {self._key.public()}"

    def begin(self, tell: Tell) -> None:
        """Publish from now on; or say loudly that nothing is signed. `tell` is for what is found later."""
        self._tell = tell
        if self.refusal is None and self._key is not None:
            key = self._key
            self._try(lambda: self._go(key))
        if self.refusal is not None:
            why = self.refusal
            LOG.error("the ledger records, but its proofs are not signed: %s. Look into it; then run "
                      "`insource audit reconcile --who NAME --why TEXT`", why)  # fmt: skip
            self._try(lambda: self._folder.refuse(why))

    def grown(self, rows: Sequence[tuple[str, Values]]) -> tuple[Frontier, list[bytes]]:
        """Return the frontier after rows (with their numbers, in their order), and the hashes of their leaves."""
        hashes = [leaf_hash(leaf(table, values)) for table, values in rows]
        return self.frontier.extended(hashes), hashes

    def write_head(self, frontier: Frontier) -> None:
        """Write the root of what is about to be committed, within the same transaction."""
        self._connection.execute(ADD_HEAD, (frontier.size, frontier.root()))

    def committed(self, frontier: Frontier, hashes: list[bytes]) -> None:
        """Take over what `grown` gave, now that it is durable."""
        self.frontier = frontier
        if self._publisher is not None:
            self._publisher.grow(hashes, frontier)

    def rotate(self, who: str, why: str, write: Write) -> PublicKey:
        """Sign with a new key of the same log from now on. Raises StoreError where nothing may be signed.

        The old key signs the act that names the new one; interrupted at any point, the next start goes on from there.
        """
        if self.refusal is not None or self._key is None:
            raise StoreError(f"The proofs are not signed ({self.refusal}), so no key can follow this one. "
                             "Run `insource audit reconcile` first.")  # fmt: skip
        following = self._folder.make_next(self._key.name)
        write(who, KEY_ACT, str(following.public()), why)
        self.close()
        if self.refusal is not None:
            raise StoreError(f"The proofs are not signed any more ({self.refusal}), so the new key is not in force. "
                             "Run `insource audit reconcile`.")  # fmt: skip
        self._succeed(following)
        self._publish(following)
        return following.public()

    def reconcile(self, who: str, why: str, write: Write) -> Path:
        """Begin a new log, under a new origin and key, over the rows as they are; return where the old one lies.

        The old key never signs again, so that it never signed two histories.
        """
        self.close()
        found = self.refusal or "nothing spoke against signing"
        note = None if self._witness is None else read_note(self._witness)
        aside = self._folder.put_aside(self.frontier.size)
        if self._witness is not None and note is not None:
            write_note(aside / "witness", note)
            with translated_files(self._witness):
                self._witness.unlink()
        write(who, RECONCILE_ACT, "proof", f"{why} (found: {found}; the old log lies in {aside.name})")
        self._objections, self._troubles, self._publisher = (), (), None
        self._key = self._folder.make_next()
        write(who, KEY_ACT, str(self._key.public()), "a new log after reconciling")
        self._go(self._key)
        return aside

    def close(self) -> None:
        """Publish what is left."""
        if self._publisher is not None:
            self._publisher.close()

    def _go(self, key: PrivateKey) -> None:
        """Put a key that the ledger now names in force where it is not yet, and publish."""
        self._folder.take_next()
        self._folder.refuse(None)
        self._folder.tell_trouble(None)
        self._publish(key)

    def _publish(self, key: PrivateKey) -> None:
        self._publisher = Publisher(self._folder, self._path, key, self.frontier, self._witness, self._tell)
        self._publisher.start()

    def _first(self, last: int) -> Frontier:
        """Return the frontier of rows without any head, from before there were proofs, and write their head.

        What was signed is compared all the same: the heads, or the ledger itself, may have been taken away.
        """
        if last > MANY_ROWS:
            LOG.warning("the tree of proofs is made for %s rows; this is done once", f"{last:,}")
        found = self._of_rows(last)
        if self._announced is not None:
            self._objections += ("the ledger names a key, but the roots that were committed with its rows are gone",)
        self._try(lambda: self._compare(last, Hashes(None, leaves_of(self._connection, self._path), last)))
        if last:
            self.write_head(found)
        return found

    def _stand_up(self, last: int, size: int, root: bytes) -> Frontier:
        """Return the frontier of all rows, and note what speaks against signing it.

        A number that a head covers is not given again: where rows are missing at the end, the tree goes on behind them.
        """
        end = max(last, size)
        leaves = leaves_of(self._connection, self._path)
        published = self._published()
        hashes = Hashes(self._folder.tiles, leaves, end, published)
        found = Frontier.at(end, hashes.subtree)
        if (size, root) != (end, found.root()):
            from_tiles, found = found, self._of_rows(end)
            hashes = Hashes(None, leaves, end)
            if (size, root) == (end, found.root()):
                self._objections += ("a tile does not match the rows",)
            else:
                what = "" if size == end else f" (head {size:,}, last row {last:,})"
                tiles = "; the tiles do" if (size, root) == (end, from_tiles.root()) else ""
                self._objections += (f"the rows do not match the root that was committed with them{what}{tiles}",)
        self._try(lambda: self._compare(end, hashes))
        return found

    def _compare(self, size: int, hashes: Hashes) -> None:
        self._key = self._folder.key()
        following = self._folder.next_key()
        if following is not None and str(following.public()) == self._announced:
            self._following = following
        key = self._following or self._key
        notes = {"the last checkpoint": self._folder.checkpoint() or next(reversed(list(self._folder.kept())), None)}
        if self._witness is not None:
            notes[f"the witness {self._witness}"] = read_note(self._witness)
        known = Known({where: note for where, note in notes.items() if note is not None},
                      None if key is None else key.public(), self._announced)  # fmt: skip
        for each in objections(known, size, lambda at: Frontier.at(at, hashes.subtree).root()):
            if each.partition(", but ")[0] not in "; ".join(self._objections):  # nor anew with each start's row count
                self._objections += (each,)

    def _carried(self) -> tuple[str, ...]:
        """Return why the start before did not sign, unless a person has reconciled since: going on heals nothing."""
        said = bytes(self._connection.execute(LAST_WORD).get or b"").decode("utf-8", "replace")
        return (said.partition(NOT_SIGNED)[2],) if NOT_SIGNED in said else ()

    def _published(self) -> int:
        try:
            note = self._folder.checkpoint()
            return 0 if note is None else Checkpoint.read(note).size
        except StoreError:
            return 0

    def _ready_key(self) -> None:
        """Finish a change of keys that was interrupted; make a first key, which `begin` puts in force."""
        if self._following is not None:
            self._succeed(self._following)
        elif self._key is None:
            self._key = self._folder.make_next()
        else:
            self._folder.drop_next()

    def _succeed(self, following: PrivateKey) -> None:
        """Have the key in force sign the act that names the next one, and put that in its place."""
        if self._key is not None:
            checkpoint = Checkpoint(self._key.name, self.frontier.size, self.frontier.root())
            note = self._key.sign(checkpoint.body())
            if self._witness is not None and self._witness.parent.is_dir():
                with suppress(StoreError):  # the publisher tells of it
                    write_note(self._witness, note)
            self._folder.keep(note, for_good=True)
        self._folder.take_next()
        self._key = following

    def _of_rows(self, size: int) -> Frontier:
        found, leaves = Frontier(), leaves_of(self._connection, self._path)
        for start in range(0, size, PAGE):
            found = found.extended(leaves(start, min(start + PAGE, size)))
            if size > MANY_ROWS:
                LOG.info("the tree of proofs: %s of %s rows", f"{found.size:,}", f"{size:,}")
        return found

    def _try(self, step: Callable[[], None]) -> None:
        """Take a step; where its files are in the way, the ledger records nevertheless."""
        try:
            step()
        except StoreError as error:
            self._troubles += (str(error),)
