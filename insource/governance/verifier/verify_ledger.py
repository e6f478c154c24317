#!/usr/bin/env python3
"""Checks what an insource ledger proves. Plain Python 3.9 or newer, nothing to install.

    python verify_ledger.py FILE        a proof or an export, as `insource audit prove` and `export` wrote it
    python verify_ledger.py FOLDER      a whole ledger: the folder with ledger.db and proof/

--key NAME+ID+KEY is the public key that you were given by another way: without it, the file's own key is believed.
--checkpoint FILE is a checkpoint that you kept: without one, a history that was replaced as a whole is not noticed.
It shares no code with insource: hashes after RFC 6962, Ed25519 after RFC 8032, notes and tiles after C2SP.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import json
import sqlite3
import sys
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
TABLES = ("acts", "audits", "decisions", "feedback", "settlements")


class Wrong(Exception):
    """What does not hold."""


# --- Ed25519 (RFC 8032, 5.1) -----------------------------------------------------------------------------------------


def _add(p: tuple[int, ...], q: tuple[int, ...]) -> tuple[int, ...]:
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _times(n: int, p: tuple[int, ...]) -> tuple[int, ...]:
    q: tuple[int, ...] = (0, 1, 1, 0)
    while n:
        if n & 1:
            q = _add(q, p)
        p, n = _add(p, p), n >> 1
    return q


def _point(data: bytes) -> tuple[int, ...]:
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if y >= P or (x * x - square) % P or (x == 0 and sign):
        raise Wrong("a key or signature is no point of the curve")
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


BASE = _point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def ed25519(key: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether the signature of 64 bytes is the key's over the message."""
    if len(key) != 32 or len(signature) != 64:
        return False
    try:
        public, r = _point(key), _point(signature[:32])
    except Wrong:
        return False
    s = int.from_bytes(signature[32:], "little")
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    left, right = _times(s, BASE), _add(r, _times(h, public))
    same = (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0
    return s < L and same


# --- notes and keys (C2SP) -------------------------------------------------------------------------------------------


def read_key(text: str) -> tuple[str, bytes, bytes]:
    """Return name, id and bytes of NAME+ID+KEY."""
    try:
        name, number, data = text.strip().split("+", 2)
        raw = b64decode(data, validate=True)
    except ValueError:
        raise Wrong(f"{text[:80]!r} is no public key") from None
    identity = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4]
    if raw[:1] != b"\1" or len(raw) != 33 or identity.hex() != number:
        raise Wrong(f"{text[:80]!r} is no Ed25519 key, or its id is another key's")
    return name, identity, raw[1:]


def read_checkpoint(note: str, keys: Iterable[str]) -> tuple[int, bytes]:
    """Return size and root of a checkpoint, once one of the keys has signed it under the log's name."""
    body, gap, signatures = note.partition("\n\n")
    lines = body.split("\n")
    if not gap or len(lines) != 3 or not lines[1].isdigit():
        raise Wrong("there is no checkpoint where one was expected")
    for text in keys:
        name, identity, key = read_key(text)
        for line in signatures.split("\n"):
            mark, _, data = line.rpartition(" ")
            try:
                raw = b64decode(data, validate=True)
            except ValueError:
                continue
            if mark == f"\u2014 {name}" and name == lines[0] and raw[:4] == identity:
                if ed25519(key, (body + "\n").encode(), raw[4:]):
                    return int(lines[1]), b64decode(lines[2])
    raise Wrong(f"the checkpoint of {lines[1]} rows is not signed by the key")


# --- the tree (RFC 6962, section 2.1) --------------------------------------------------------------------------------


def leaf(data: bytes) -> bytes:
    """Return the hash of a leaf."""
    return hashlib.sha256(b"\x00" + data).digest()


def node(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def half(size: int) -> int:
    """Return the largest power of two below size."""
    power = 1
    while power * 2 < size:
        power *= 2
    return power


def root_by_path(hashed: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """Return the root to which an audit path leads (2.1.1, read from the top)."""
    if size == 1:
        if path:
            raise Wrong("a path is too long")
        return hashed
    if not path:
        raise Wrong("a path is too short")
    k = half(size)
    if index < k:
        return node(root_by_path(hashed, index, k, path[:-1]), path[-1])
    return node(path[-1], root_by_path(hashed, index - k, size - k, path[:-1]))


def roots_by_path(first: int, size: int, path: list[bytes], old: bytes, whole: bool = True) -> tuple[bytes, bytes]:
    """Return the two roots to which a consistency path leads (2.1.2, read from the top)."""
    if first == size:
        if whole != (not path) or len(path) > 1:
            raise Wrong("a consistency path has the wrong length")
        return (old, old) if whole else (path[0], path[0])
    if not path:
        raise Wrong("a consistency path is too short")
    k = half(size)
    if first <= k:
        before, after = roots_by_path(first, k, path[:-1], old, whole)
        return before, node(after, path[-1])
    before, after = roots_by_path(first - k, size - k, path[:-1], old, False)
    return node(path[-1], before), node(path[-1], after)


def check_consistency(first: int, old: bytes, size: int, root: bytes, path: list[bytes]) -> None:
    """Raise Wrong unless the tree of `size` rows extends that of `first`."""
    if not 0 < first <= size or roots_by_path(first, size, path, old) != (old, root):
        raise Wrong(f"the tree of {size} rows does not extend the one of {first}")


def root_around(first: int, leaves: list[bytes], size: int, sides: list[bytes]) -> bytes:
    """Return the root over leaves from `first` on, with the hashes left and right of them."""
    given, stop = iter(sides), first + len(leaves)

    def over(low: int, high: int) -> bytes:
        if high <= first or low >= stop:
            found = next(given, None)
            if found is None:
                raise Wrong("hashes beside the rows are missing")
            return found
        if high - low == 1:
            return leaves[low - first]
        k = low + half(high - low)
        return node(over(low, k), over(k, high))

    found = over(0, size)
    if next(given, None) is not None:
        raise Wrong("there are more hashes beside the rows than belong there")
    return found


class Growing:
    """A tree that grows by one leaf; complete subtrees of the sizes 2**n are kept by n."""

    def __init__(self) -> None:
        self.size, self._complete = 0, dict[int, bytes]()

    def add(self, hashed: bytes) -> None:
        """Append a leaf."""
        power = 0
        while power in self._complete:
            hashed, power = node(self._complete.pop(power), hashed), power + 1
        self._complete[power] = hashed
        self.size += 1

    def root(self) -> bytes:
        """Return the root now."""
        found = b""
        for power in sorted(self._complete):
            found = node(self._complete[power], found) if found else self._complete[power]
        return found or hashlib.sha256(b"").digest()


# --- what there is to check ------------------------------------------------------------------------------------------


def _hashes(texts: list[str]) -> list[bytes]:
    return [b64decode(text) for text in texts]


def check_proof(data: dict[str, Any], key: str | None, kept: list[str], say: Callable[[str], None]) -> None:
    """Check the rows of one request."""
    size, root = read_checkpoint(data["checkpoint"], [key or data["key"]])
    for row in data["rows"]:
        told = json.loads(row["leaf"])
        if told["row"]["seq"] != row["index"] + 1:
            raise Wrong(f"row {row['index'] + 1} bears the number {told['row']['seq']}")
        if data["request"] not in (told["row"].get("request_id"), told["row"].get("subject")):
            raise Wrong(f"row {row['index'] + 1} is about another request")
        hashed = leaf(row["leaf"].encode())
        if not 0 <= row["index"] < size or root_by_path(hashed, row["index"], size, _hashes(row["path"])) != root:
            raise Wrong(f"row {row['index'] + 1} ({told['kind']}) is not in the tree that was signed")
        say(f"row {row['index'] + 1} ({told['kind']}): {json.dumps(told['row'], ensure_ascii=False)}")
    say(f"Established: these {len(data['rows'])} rows are among the {size} rows of the signed checkpoint, unchanged.")
    _compare_kept(kept, key or data["key"], {size: root}, say)
    say("Not established: that these are all rows about the request; later rows may add to them.")


def check_export(path: Path, key: str | None, kept: list[str], say: Callable[[str], None]) -> None:
    """Check a span of rows."""
    with path.open("rb") as file:
        head = json.loads(file.readline())
        first, count = head["first"], head["last"] - head["first"] + 1
        leaves, digests = [], {}
        for number in range(first, head["last"] + 1):
            line = file.readline().rstrip(b"\n")
            told = json.loads(line or b"{}")
            if not line or told["row"]["seq"] != number:
                raise Wrong(f"row {number} is missing, or another stands in its place")
            leaves.append(leaf(line))
            digests[number] = told["row"].get("content_digest")
        size, root = read_checkpoint(head["checkpoint"], [key or head["key"]])
        if root_around(first - 1, leaves, size, _hashes(head["around"])) != root:
            raise Wrong(f"rows {first} to {head['last']} are not, in this order and number, those that were signed")
        texts = 0
        for line in file:
            text = json.loads(line)
            if digests.get(text["row"]) != text_digest(bytes.fromhex(text["salt"]), text["parts"]):
                raise Wrong(f"the text of row {text['row']} is not the one that was recorded")
            texts += 1
    known = {size: root}
    for each in head["earlier"]:
        old_size, old = read_checkpoint(each["checkpoint"], [key or head["key"]])
        check_consistency(old_size, old, size, root, _hashes(each["path"]))
        known[old_size] = old
    say(f"Established: rows {first} to {head['last']} ({count}) are whole, in their order and unchanged, as they were "
        f"signed in a checkpoint of {size} rows; {len(head['earlier'])} earlier checkpoints are prefixes of it; "
        f"{texts} texts are those recorded.")  # fmt: skip
    _compare_kept(kept, key or head["key"], known, say)
    say("Not established: what the rows before and after say.")


def text_digest(salt: bytes, parts: list[str | None]) -> str:
    """Return the salted digest of a text, an answer and a reference."""
    made = hashlib.sha256(salt)
    for part in parts:
        data = None if part is None else part.encode("utf-8", "surrogatepass")
        made.update(b"\x00" if data is None else b"\x01" + len(data).to_bytes(8, "big") + data)
    return made.hexdigest()


def _compare_kept(kept: list[str], key: str, known: dict[int, bytes], say: Callable[[str], None]) -> None:
    for note in kept:
        size, root = read_checkpoint(note, [key])
        if size not in known:
            say(f"Not established: how the checkpoint of {size} rows that you kept relates to these; the file has no "
                "proof for that size.")  # fmt: skip
        elif known[size] != root:
            raise Wrong(f"the checkpoint of {size} rows that you kept has another root: the history was replaced")
        else:
            say(f"Established: the checkpoint of {size} rows that you kept belongs to the same history.")


def read_rows(database: sqlite3.Connection) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield number, table and columns of all rows in their order."""

    def of(table: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
        cursor = database.execute(f"SELECT * FROM {table} ORDER BY seq")
        names = [column[0] for column in cursor.description]
        for values in cursor:
            row = {name: value for name, value in zip(names, values) if value is not None}  # noqa: B905 (Python 3.9)
            yield row["seq"], table, row

    return heapq.merge(*map(of, TABLES), key=lambda row: row[0])


def leaf_bytes(table: str, row: dict[str, Any]) -> bytes:
    """Return a row's leaf: JSON of fixed form; real numbers as text, bytes as hexadecimal digits."""
    plain = {name: value.hex() if isinstance(value, bytes) else repr(value + 0.0) if isinstance(value, float) else value
             for name, value in row.items()}  # fmt: skip
    told = {"kind": table, "leaf": 1, "row": plain}
    return json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def check_ledger(folder: Path, key: str | None, kept: list[str], say: Callable[[str], None]) -> None:
    """Check a whole ledger from its rows."""
    database = sqlite3.connect(f"file:{folder / 'ledger.db'}?mode=ro", uri=True)
    acts = database.execute("SELECT what, subject, detail FROM acts WHERE what IN ('start', 'proof key') ORDER BY seq")
    named = [subject if what == "proof key" else detail.partition("proof key ")[2] for what, subject, detail in acts]
    named = [text for text in named if text]
    if key is not None and key not in named:
        raise Wrong("the ledger does not name the key that you were given")
    keys = [key, *(each for each in named if read_key(each)[0] == read_key(key)[0])] if key else named
    notes = [path.read_text("utf-8") for path in sorted((folder / "proof" / "checkpoints").glob("*"))]
    notes += [path.read_text("utf-8") for path in (folder / "proof" / "checkpoint",) if path.exists()]
    wanted: dict[int, set[bytes]] = {}
    for note in [*notes, *kept]:
        size, root = read_checkpoint(note, keys)
        wanted.setdefault(size, set()).add(root)
    heads = dict(database.execute("SELECT size, root FROM heads"))
    tree, good = Growing(), 0
    for number, table, row in read_rows(database):
        if number != tree.size + 1:
            raise Wrong(
                f"row {tree.size + 1} is missing" if number > tree.size else f"two rows bear the number {number}"
            )
        tree.add(leaf(leaf_bytes(table, row)))
        if number in heads or number in wanted:
            root = tree.root()
            if heads.get(number, root) != root or wanted.pop(number, {root}) != {root}:
                raise Wrong(f"one of rows {good + 1} to {number} is not as it was recorded")
            good = number
    if ends := sorted({*wanted, *(size for size in heads if size > tree.size)}):
        raise Wrong(f"rows {tree.size + 1} to {ends[-1]} are missing at the end")
    texts = check_texts(database)
    say(f"Established: all {tree.size} rows are there, in their order, and give the roots of all {len(heads)} commits "
        f"and of {len(notes) + len(kept)} signed checkpoints; {texts} kept texts match their rows.")  # fmt: skip
    say("Not established: that texts which are gone were erased rightly; that rows were true when they were written.")
    if not kept:
        say("Not established: that the whole history was not replaced, since no checkpoint kept elsewhere was given.")


def check_texts(database: sqlite3.Connection) -> int:
    """Check all kept texts against the digests in their rows; return how many there are."""
    count = 0
    for table in ("decisions", "settlements", "audits"):
        select = f"""
        SELECT t.seq, t.content_digest, c.salt, c.text, c.answer, c.reference FROM {table} t JOIN contents c USING (seq)
        WHERE coalesce(c.text, c.answer, c.reference) IS NOT NULL
        """
        for seq, digest, salt, *parts in database.execute(select):
            texts = [None if part is None else part.decode("utf-8", "surrogatepass") for part in parts]
            if digest is None or text_digest(salt, texts) != digest.hex():
                raise Wrong(f"the text of row {seq} ({table}) is not the one that was recorded")
            count += 1
    return count


def main(arguments: list[str], write: Callable[[str], object] = sys.stdout.write) -> int:
    """Run the check; return 0 where all holds, 1 where something does not, 2 for what cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", type=Path, help="a proof, an export, or a ledger's folder")
    parser.add_argument("--key", help="the public key, NAME+ID+KEY")
    parser.add_argument("--checkpoint", type=Path, action="append", default=[], help="a checkpoint that was kept")
    chosen = parser.parse_args(arguments)

    def say(line: str) -> None:
        write(line + "\n")

    try:
        kept = [path.read_text("utf-8") for path in chosen.checkpoint]
        if chosen.what.is_dir():
            check_ledger(chosen.what, chosen.key, kept, say)
        else:
            with chosen.what.open("rb") as file:
                start = file.read(200)
            if b'"insource.export/1"' in start:
                check_export(chosen.what, chosen.key, kept, say)
            else:
                check_proof(json.loads(chosen.what.read_text("utf-8")), chosen.key, kept, say)
    except Wrong as error:
        say(f"WRONG: {error}.")
        return 1
    except (OSError, ValueError, KeyError, TypeError, sqlite3.Error) as error:
        say(f"This cannot be read as a proof, an export or a ledger ({type(error).__name__}: {error}).")
        return 2
    if chosen.key is None:
        say("Not established: whose key this is. Compare it with the one that you were given by another way (--key).")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
