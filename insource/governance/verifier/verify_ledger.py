#!/usr/bin/env python3
"""Checks what an insource ledger proves. Plain Python 3.9 or newer, nothing to install.

    python verify_ledger.py FILE        a proof or an export, as `insource audit prove` and `export` wrote it
    python verify_ledger.py FOLDER      a whole ledger: the folder with ledger.db and proof/

--answers ANSWERS is the file that `insource audit show --to` wrote beside it: what it says of the rows is found anew.
--key NAME+ID+KEY is the public key that you were given by another way: without it, the file's own key is believed. Give
it several times where keys followed one another and you kept checkpoints of each.
--checkpoint FILE is a checkpoint that you kept: without one, a history that was replaced as a whole is not noticed.
It uses no code of insource: hashes after RFC 6962, Ed25519 after RFC 8032, notes and tiles after C2SP. How answers are
found stands here alone, for all to read: insource calls it, too.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import heapq
import json
import re
import sqlite3
import sys
import textwrap
from base64 import b64decode, b64encode
from collections import Counter, namedtuple
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
TABLES = ("acts", "audits", "decisions", "feedback", "settlements")
PROOF, EXPORT, ANSWERS = "insource.proof/1", "insource.export/1", "insource.answers/1"

Say = Callable[[str], None]
See = Callable[["dict[str, Any]"], None]
"""Takes a row, as its leaf tells it."""


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


def decoded(text: str) -> bytes:
    """Return what canonical base64 stands for (RFC 4648, section 3.5); ValueError for any other text."""
    data = b64decode(text, validate=True)
    if b64encode(data).decode() != text:
        raise ValueError("base64 that is not canonical")
    return data


def read_key(text: str) -> tuple[str, bytes, bytes]:
    """Return name, id and bytes of NAME+ID+KEY."""
    try:
        name, number, data = text.strip().split("+", 2)
        raw = decoded(data)
    except ValueError:
        raise Wrong(f"{text[:80]!r} is no public key") from None
    identity = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4]
    if raw[:1] != b"\1" or len(raw) != 33 or identity.hex() != number:
        raise Wrong(f"{text[:80]!r} is no Ed25519 key, or its id is another key's")
    return name, identity, raw[1:]


def signer(note: str, keys: Iterable[str]) -> str | None:
    """Return the one of the keys that has signed a note under its log's name, None where none has."""
    body, _, signatures = note.partition("\n\n")
    for text in keys:
        name, identity, key = read_key(text)
        for line in signatures.split("\n"):
            mark, _, data = line.rpartition(" ")
            try:
                raw = decoded(data)
            except ValueError:
                continue
            if mark == f"\u2014 {name}" and name == body.split("\n")[0] and raw[:4] == identity:
                if ed25519(key, (body + "\n").encode(), raw[4:]):
                    return text
    return None


def read_checkpoint(note: Any, keys: Iterable[str]) -> tuple[int, bytes]:
    """Return size and root of a checkpoint, once one of the keys has signed it under the log's name."""
    if not isinstance(note, str):
        raise Wrong("there is no checkpoint where one was expected")
    body, gap, _ = note.partition("\n\n")
    lines = body.split("\n")
    if not gap or len(lines) != 3 or not lines[1].isdecimal():
        raise Wrong("there is no checkpoint where one was expected")
    if signer(note, keys) is None:
        raise Wrong(f"the checkpoint of {lines[1][:20]} rows is not signed by the key")
    return int(lines[1]), decoded(lines[2])


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
    return [decoded(text) for text in texts]


def unseen(told: dict[str, Any]) -> None:
    """Take no note of a row."""


def read_signed(data: dict[str, Any], keys: list[str]) -> tuple[int, bytes]:
    """Return size and root of the checkpoint in a proof or an export, once the key that it names has signed it.

    That must be one of `keys`, where there are any.
    """
    own = [text for text in keys or [data["key"]] if read_key(text) == read_key(data["key"])]
    size, root = read_checkpoint(data["checkpoint"], own or keys)
    if not own:
        raise Wrong("the file names another key than the one that signed its checkpoint")
    return size, root


def of_itself(data: dict[str, Any], first: int | None, last: int | None, request: str | None) -> dict[str, Any]:
    """Return what a proof or an export says of itself, and nothing else that may stand in it."""
    return {"first": first, "last": last, "request": request, "key": data["key"], "checkpoint": data["checkpoint"]}


def check_proof(data: dict[str, Any], keys: list[str], kept: list[str], say: Say, see: See = unseen) -> dict[str, Any]:
    """Check the rows of one request, and return what the proof says of itself; `see` takes each row."""
    request = data["request"]
    if data["format"] != PROOF or not isinstance(request, str) or not request:
        raise Wrong("this is no proof of one request's rows")
    size, root = read_signed(data, keys)
    keys, before = keys or [data["key"]], -1
    if not data["rows"]:
        raise Wrong("the proof holds no row")
    for row in data["rows"]:
        told = json.loads(row["leaf"])
        if row["index"] <= before:
            raise Wrong(f"row {row['index'] + 1} stands twice, or out of its order")
        before = row["index"]
        if told["row"]["seq"] != row["index"] + 1:
            raise Wrong(f"row {row['index'] + 1} bears the number {told['row']['seq']}")
        if request not in (told["row"].get("request_id"), told["row"].get("subject")):
            raise Wrong(f"row {row['index'] + 1} is about another request")
        hashed = leaf(row["leaf"].encode())
        if not 0 <= row["index"] < size or root_by_path(hashed, row["index"], size, _hashes(row["path"])) != root:
            raise Wrong(f"row {row['index'] + 1} ({told['kind']}) is not in the tree that was signed")
        see(told)
        say(f"row {row['index'] + 1} ({told['kind']}): {json.dumps(told['row'], ensure_ascii=False)}")
    say(f"Established: these {len(data['rows'])} rows are among the {size} rows of the signed checkpoint, unchanged.")
    _compare_kept(kept, keys, {size: root}, say)
    say("Not established: that these are all rows about the request; later rows may add to them.")
    return of_itself(data, None, None, request)


def check_export(path: Path, keys: list[str], kept: list[str], say: Say, see: See = unseen) -> dict[str, Any]:
    """Check a span of rows, and return what the file says of itself; `see` takes each row."""
    with path.open("rb") as file:
        head = json.loads(file.readline())
        if head["format"] != EXPORT:
            raise Wrong("this is no export")
        first, count = head["first"], head["last"] - head["first"] + 1
        if first < 1 or count < 1:
            raise Wrong("the export holds no row")
        leaves, digests = [], {}
        for number in range(first, head["last"] + 1):
            line = file.readline().rstrip(b"\n")
            told = json.loads(line or b"{}")
            if not line or told["row"]["seq"] != number:
                raise Wrong(f"row {number} is missing, or another stands in its place")
            see(told)
            leaves.append(leaf(line))
            digests[number] = told["row"].get("content_digest")
        size, root = read_signed(head, keys)
        keys = keys or [head["key"]]
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
        old_size, old = read_checkpoint(each["checkpoint"], keys)
        check_consistency(old_size, old, size, root, _hashes(each["path"]))
        known[old_size] = old
    say(f"Established: rows {first} to {head['last']} ({count}) are whole, in their order and unchanged, as they were "
        f"signed in a checkpoint of {size} rows; {len(head['earlier'])} earlier checkpoints are prefixes of it; "
        f"{texts} texts are those recorded.")  # fmt: skip
    _compare_kept(kept, keys, known, say)
    say("Not established: what the rows before and after say.")
    return of_itself(head, first, head["last"], None)


def text_digest(salt: bytes, parts: list[str | None]) -> str:
    """Return the salted digest of a text, an answer and a reference."""
    return parts_digest(salt, [None if part is None else part.encode("utf-8", "surrogatepass") for part in parts]).hex()


def parts_digest(salt: bytes, parts: Iterable[Any]) -> bytes:
    """Return the same from their bytes."""
    made = hashlib.sha256(salt)
    for data in parts:
        made.update(b"\x00" if data is None else b"\x01" + len(data).to_bytes(8, "big") + data)
    return made.digest()


def _compare_kept(kept: list[str], keys: list[str], known: dict[int, bytes], say: Say) -> None:
    for note in kept:
        size, root = read_checkpoint(note, keys)
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
    return json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8", "surrogateescape"
    )


def open_ledger(folder: Path) -> sqlite3.Connection:
    """Return the ledger's file, read as it is at one moment, also beside a running gateway."""
    database = open_database(folder / "ledger.db")
    database.execute("BEGIN")
    return database


def open_database(path: Path) -> sqlite3.Connection:
    """Return a file of SQLite's to read, whatever its name and its texts."""
    database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
    database.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    return database


def read_notes(folder: Path) -> list[str]:
    """Return the checkpoints that lie in a home."""
    kept = folder / "checkpoints"
    names = sorted(path.name for path in kept.iterdir()) if kept.is_dir() else []
    found = []
    for path in [*(kept / name for name in names if name.isdigit()), folder / "checkpoint"]:
        with contextlib.suppress(FileNotFoundError):
            found.append(path.read_text("utf-8"))
    return found


def named_keys(database: sqlite3.Connection) -> dict[str, int]:
    """Return the public keys that the ledger's acts name, each with the number of the first act that does."""
    acts = database.execute("SELECT seq, what, who, subject, detail FROM acts WHERE what IN ('start', 'proof key') "
                            "ORDER BY seq")  # fmt: skip
    found: dict[str, int] = {}
    for number, what, who, subject, detail in acts:
        text = subject if what == "proof key" else detail.partition("proof key ")[2] if who == "insource" else ""
        if text:
            found.setdefault(text, number)
    return found


def check_ledger(folder: Path, keys: list[str], kept: list[str], say: Say) -> None:
    """Check a whole ledger from its rows."""
    notes = [*read_notes(folder / "proof"), *kept]  # before the rows, which only grow
    database = open_ledger(folder)
    named = named_keys(database)
    if not set(keys) <= set(named):
        raise Wrong("the ledger does not name the key that you were given")
    signed = [(*read_checkpoint(note, named), signer(note, named) or "") for note in notes]
    wanted: dict[int, set[bytes]] = {}
    for size, root, _ in signed:
        wanted.setdefault(size, set()).add(root)
    size, commits = check_rows(database, wanted)
    check_keys(named, keys, signed)
    texts, sealed = check_texts(database, folder)
    covered = max((covers for covers, _, _ in signed), default=0)
    say(f"Established: all {size} rows are there, in their order, and give the roots of all {commits} commits "
        f"and of {len(notes)} signed checkpoints; {texts} kept texts match their rows.")  # fmt: skip
    if covered < size:
        say(f"Not established: who wrote rows {covered + 1} to {size}, which no checkpoint covers.")
    if sealed:
        say(f"Not established: what {sealed} sealed texts say; keys of theirs were destroyed, or do not lie here.")
    say("Not established: that texts which are gone were erased rightly; that rows were true when they were written.")
    if not kept:
        say("Not established: that the whole history was not replaced, since no checkpoint kept elsewhere was given.")


def check_rows(database: sqlite3.Connection, wanted: dict[int, set[bytes]]) -> tuple[int, int]:
    """Check all rows against the roots of commits and those wanted by size; return the number of both."""
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
            if heads.get(number, root) != root or wanted.get(number, {root}) != {root}:
                raise Wrong(f"one of rows {good + 1} to {number} is not as it was recorded")
            good = number
    if max([*wanted, *heads], default=0) > tree.size:
        raise Wrong(f"rows {tree.size + 1} to {max([*wanted, *heads])} are missing at the end")
    if tree.size > max(heads, default=0):
        raise Wrong(f"rows {max(heads, default=0) + 1} to {tree.size} were added without a head")
    return tree.size, len(heads)


def check_keys(named: dict[str, int], given: list[str], signed: list[tuple[int, bytes, str]]) -> None:
    """Check that every checkpoint is of a key in force: one given (else the first of its log), or one that followed.

    A key follows where the key before it signed a checkpoint over the act that names it; then that one is done.
    """
    until: dict[str, float] = {}
    names = [read_key(text)[0] for text in named]
    for name in dict.fromkeys(names):
        line = [text for text, of in zip(named, names) if of == name]  # noqa: B905 (Python 3.9)
        starts = [text for text in line if text in given] if given else line[:1]
        for start in starts:
            for key, after in zip(line, [*line[1:], None]):  # noqa: B905 (Python 3.9)
                ends = [size for size, _, by in signed if by == key and after and size >= named[after]]
                end = min(ends) if ends else float("inf")
                if named[key] < named[start]:
                    until[key] = min(end, until.get(key, end))
                elif key == start or key in until:
                    until[key] = end
                    if ends and after:
                        until.setdefault(after, float("inf"))
    for size, _, key in signed:
        if size > until.get(key, -1):
            raise Wrong(f"the checkpoint of {size} rows is signed by a key that was not in force there")
    if given and not any(by in given for _, _, by in signed):
        raise Wrong("no checkpoint is signed by the key that you were given")


def check_texts(database: sqlite3.Connection, folder: Path) -> tuple[int, int]:
    """Check the kept texts against the digests in their rows; return how many could be, and how many are sealed.

    They are opened with the keys in content_keys.db, where that lies beside.
    """
    checked = sealed = 0
    with contextlib.closing(Seals(folder)) as seals:
        for table in ("decisions", "settlements", "audits"):
            select = f"""
            SELECT t.seq, t.content_digest, c.subject, c.day, c.salt, c.text, c.answer, c.reference
            FROM {table} t JOIN contents c USING (seq) WHERE coalesce(c.text, c.answer, c.reference) IS NOT NULL
            """
            for seq, digest, subject, day, *parts in database.execute(select):
                key = seals.key(subject, day)
                if key is None:
                    sealed += 1
                    continue
                salt, *texts = (part if part is None else open_sealed(key, place(seq, at), part)
                                for at, part in enumerate(parts))  # fmt: skip
                if False in (salt, *texts) or digest is None or parts_digest(salt or b"", texts) != digest:
                    raise Wrong(f"the text of row {seq} ({table}) is not the one that was recorded")
                checked += 1
    return checked, sealed


class Seals:
    """The keys of a home's texts, as far as they lie beside: a subject's, and a day of expiry's."""

    def __init__(self, folder: Path) -> None:
        path = folder / "content_keys.db"
        self.known: dict[tuple[bytes, ...], bytes | None] = {}
        self.database = open_database(path) if path.exists() else None

    def key(self, *parts: bytes | None) -> bytes | None:
        """Return the key of a row's texts, None where a part of it was destroyed or lies elsewhere."""
        names = tuple(each for each in parts if each is not None)
        if names not in self.known:
            self.known[names] = self._read(names)
        return self.known[names]

    def _read(self, names: tuple[bytes, ...]) -> bytes | None:
        secret = b""
        for name in names:
            select = "SELECT key FROM keys WHERE id = ?"
            found = None if self.database is None else self.database.execute(select, (name,)).fetchone()
            if found is None:
                return None
            secret = hashlib.blake2b(found[0], key=secret, digest_size=32, person=b"insource-content").digest()
        return secret

    def close(self) -> None:
        """Close the file."""
        if self.database is not None:
            self.database.close()


def place(seq: int, at: int) -> bytes:
    """Return what a sealed part (0 salt, 1 text, 2 answer, 3 reference) is bound to."""
    return b"contents" + seq.to_bytes(8, "big", signed=True) + bytes([at])


# --- AES-256-GCM (FIPS 197, NIST SP 800-38D) --------------------------------------------------------------------------


def open_sealed(key: bytes, place: bytes, sealed: Any) -> bytes | Literal[False]:
    """Return what was sealed (nonce, then ciphertext, then tag), False where it is not as it was sealed."""
    if not isinstance(sealed, bytes) or len(sealed) < 28:
        return False
    nonce, data, tag = sealed[:12], sealed[12:-16], sealed[-16:]
    encrypt = aes(key)
    lengths = (8 * len(place)).to_bytes(8, "big") + (8 * len(data)).to_bytes(8, "big")
    padded = place + bytes(-len(place) % 16) + data + bytes(-len(data) % 16) + lengths
    if ghash(encrypt(0), padded) ^ encrypt(int.from_bytes(nonce, "big") << 32 | 1) != int.from_bytes(tag, "big"):
        return False
    counters = range(2, 2 + (len(data) + 15) // 16)
    stream = b"".join(encrypt(int.from_bytes(nonce, "big") << 32 | n).to_bytes(16, "big") for n in counters)
    return bytes(a ^ b for a, b in zip(data, stream))  # noqa: B905 (Python 3.9)


@functools.lru_cache(64)
def aes(key: bytes) -> Callable[[int], int]:
    """Return the encryption of a block, as a number of 128 bits, under a key of 32 bytes."""
    words = [int.from_bytes(key[at : at + 4], "big") for at in range(0, 32, 4)]
    constant = 1
    for at in range(8, 60):
        word = words[-1]
        if at % 8 == 0:
            word = _substituted((word << 8 | word >> 24) & 0xFFFFFFFF) ^ constant << 24
            constant = _doubled(constant)
        elif at % 8 == 4:
            word = _substituted(word)
        words.append(words[-8] ^ word)
    rounds = [tuple(words[at : at + 4]) for at in range(0, 60, 4)]

    first, second, third, fourth = MIXED

    def encrypt(block: int) -> int:
        state = [block >> shift & 0xFFFFFFFF ^ word for shift, word in zip((96, 64, 32, 0), rounds[0])]  # noqa: B905
        for each in rounds[1:-1]:
            state = [first[state[at] >> 24] ^ second[state[at - 3] >> 16 & 255] ^ third[state[at - 2] >> 8 & 255]
                     ^ fourth[state[at - 1] & 255] ^ each[at] for at in range(4)]  # fmt: skip
        found = 0
        for at in range(4):
            word = (SBOX[state[at] >> 24] << 24 | SBOX[state[at - 3] >> 16 & 255] << 16
                    | SBOX[state[at - 2] >> 8 & 255] << 8 | SBOX[state[at - 1] & 255])  # fmt: skip
            found = found << 32 | word ^ rounds[-1][at]
        return found

    return encrypt


def ghash(key: int, data: bytes) -> int:
    """Return GHASH of whole blocks."""
    table, found = _products(key), 0
    for at in range(0, len(data), 16):
        block = (found ^ int.from_bytes(data[at : at + 16], "big")).to_bytes(16, "big")
        found = 0
        for place, byte in enumerate(block):
            found ^= table[place][byte]
    return found


@functools.lru_cache(64)
def _products(key: int) -> list[list[int]]:
    """Return the product of a key and each byte in each of the 16 places of a block."""
    powers = [key]  # of the block's bits, the first bit first
    for _ in range(127):
        powers.append(powers[-1] >> 1 ^ (0xE1 << 120 if powers[-1] & 1 else 0))
    table = []
    for place in range(16):
        row = [0] * 256
        for bit in range(8):
            for byte in range(256):
                if byte >> (7 - bit) & 1:
                    row[byte] ^= powers[8 * place + bit]
        table.append(row)
    return table


def _doubled(value: int) -> int:
    return (value << 1 ^ (0x11B if value & 0x80 else 0)) & 0xFF


def _substitutions() -> list[int]:
    found, p, q = [0x63] + [0] * 255, 1, 1
    while True:  # p runs through the powers of 3, q through their inverses
        p = p ^ _doubled(p)
        q ^= q << 1
        q ^= q << 2
        q = (q ^ q << 4) & 0xFF
        q ^= 0x09 if q & 0x80 else 0
        turned = q
        for n in range(1, 5):
            turned ^= (q << n | q >> (8 - n)) & 0xFF
        found[p] = turned ^ 0x63
        if p == 1:
            return found


def _mixtures() -> list[list[int]]:
    """Return MixColumns of each substituted byte in each of the four places of a word."""
    columns = [int.from_bytes(bytes([_doubled(each), each, each, each ^ _doubled(each)]), "big") for each in SBOX]
    return [[(word >> 8 * n | word << 32 - 8 * n) & 0xFFFFFFFF for word in columns] for n in range(4)]


SBOX = _substitutions()
MIXED = _mixtures()


def _substituted(word: int) -> int:
    return int.from_bytes(bytes(SBOX[byte] for byte in word.to_bytes(4, "big")), "big")


def printable(text: str) -> str:
    """Return text that cannot steer a terminal."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text)


# --- answers to an auditor's questions (docs/reference/proofs.md has their form) -------------------------------------

QUESTIONS = {
    "model": "Which model answered, how often, with what outcome?",
    "data": "From which data was it made?",
    "approved": "Who approved it?",
    "left": "What left the house, and where to?",
    "changed": "What was changed, by whom, and why?",
    "complete": "Is the record complete?",
}
NOT_ESTABLISHED = (
    "that what was recorded was true when it was written, and that the gateway's clock was right",
    "what the rows before and after these say, but for acts that are proved one by one",
    "that no other act about a version lies outside these rows",
    "which upstreams were tried in vain before the one that answered; rows name the last one only",
    "which tiers were asked before the one that a row names, or in vain where another's answer was taken as the best",
    "what was sent to a tier for a request that was lost before its record (a tier is asked while it is decided), and "
    "by `insource train --tier`, which writes no row",
    "what is marked as told: registry and configuration are no part of the ledger, and say how things are now",
)
SOURCES = ("registry", "configuration", "ledger, unproven")
SEALED = "registry, sealed"
"""The source of a statement about a registry's row whose digest an act names."""
ROUTINE = ("backup", "purge", "review", "steward ended", "worker ended")
PLACE = r"(?:candidate|shadow|active|retired|canary at [0-9.e+-]+ %)"
NAMED = r"; digest (?P<digest>[0-9a-f]{64})(?:; row [0-9a-f]{64})?\)\Z"
ENDINGS = {
    "promote": re.compile(rf" \(before: [^()]*{NAMED}"),
    "move": re.compile(rf" \({PLACE} to (?P<to>{PLACE}){NAMED}"),
    "rollback": re.compile(rf" \(was {PLACE}; serves now: (?P<now>[^()]+)\)\Z"),
}
"""How the details of acts end, after the words of whoever did it: what insource wrote there itself."""
STAGED = ("doubt", "end doubt", "move", "promote", "propose", "re-certify", "refuse artifact", "resume", "rollback",
          "suspend", "withdraw")  # fmt: skip
NOT_SENT = ("invalid_request", "kept_local", "upstream_resting")
PURPOSES = {
    "answer": "went to {} for an answer",
    "failed": "{} sent up without any upstream's reply on record; counted as left, and no row says where to",
    "reference": "answered here went up as well, for a reference (audit sample); no row says where to",
    "label": "answered here went up as well, for a label that was bought; no row says where to",
    "open": "may have left: no row says how they ended",
    "tier": "went to {}, a tier; counted as left also where it failed, or where policy did not let them go there",
}


def counted(number: int, noun: str) -> str:
    """Return "1 row" or "4,533 rows"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def listed(counts: dict[str, int]) -> str:
    """Return counts in words, the largest first."""
    largest_first = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    return ", ".join(f"{count:,} {name}" for name, count in largest_first)


def moment(micros: int) -> str:
    """Return a time of the ledger in words."""
    return f"{datetime(1970, 1, 1) + timedelta(microseconds=micros):%Y-%m-%d %H:%M:%S} UTC"


def _of(task: str | None) -> str:
    return "of no task" if task is None else f"of task {task}"


def _act(f: dict[str, Any]) -> str:
    return f"row {f['row']:,}, {f['time']}: {f['who']}: {f['what']} {f['subject']}" + (
        "" if f["detail"] is None else f": {f['detail']}"
    )


def _accepted(f: dict[str, Any]) -> str:
    named = f["by"] or "What is computed here without a version"
    what = "" if f["digest"] is None else f" (artifact {f['digest'][:16]}, threshold {f['threshold']})"
    where = "here" if f["tier"] is None else f"as the tier {f['tier']}"
    how = listed(f["reasons"])
    return f"{named}{what} answered {counted(f['requests'], 'request')} {_of(f['task'])} {where}: {how}."


def _approval(f: dict[str, Any]) -> str:
    first = f"its first answer here (row {f['first']:,})"
    if f["act"] is None:
        return f"No row that is proved here says who put {f['version']} to serve before {first}."
    whose = {"steward": "by the steward, on the evidence told in that act; no person is named in it",
             "person": f"by {f['act']['who']}, a person or a program under that name"}[f["by"]]  # fmt: skip
    return f"{f['version']} was put to serve {whose}, before {first}. {_capital(_act(f['act']))}."


def _left(f: dict[str, Any]) -> str:
    rated = "that nobody rated" if f["sensitivity"] is None else f"rated {f['sensitivity']}"
    came = "without a key" if f["key"] is None else f"with key {f['key']}"
    how = PURPOSES[f["purpose"]].format(f["upstream"] or ("was" if f["requests"] == 1 else "were"))
    return f"{counted(f['requests'], 'request')} {rated}, {came}, {how}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _kinds(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {counts[name]:,}" for name in sorted(counts))


def _span(f: dict[str, Any]) -> str:
    if f["first"] is None:
        return f"{counted(f['rows'], 'row')} about the request"
    return f"Rows {f['first']:,} to {f['last']:,} without a gap"


def _statuses(counts: dict[str, int]) -> str:
    return ", ".join(f"status {name}: {counts[name]:,}" for name in sorted(counts))


def _version(f: dict[str, Any]) -> str:
    rows, recipe = (", ".join(f"{name} {value}" for name, value in f[part].items()
                              if value is not None and value is not False)
                    or "not told" for part in ("rows", "recipe"))  # fmt: skip
    certified = "Not certified."
    if f["threshold"] is not None:
        certified = f"Certified: threshold {f['threshold']}, risk at most {f['risk_upper_bound']} at confidence "
        certified += f"{f['confidence_level']}."
    parents = f"Made from {', '.join(f['parents'])}." if f["parents"] else "Made from no other version."
    return (f"{f['version']} ({f['family']}), made {f['made']}, artifact {f['digest']}. Snapshot {f['snapshot']}; "
            f"rows: {rows}; from {f['source']}. Recipe: {recipe}. {certified} {parents}")  # fmt: skip


def _requests(f: dict[str, Any]) -> str:
    told = f"{counted(f['decided'], 'request')} decided, {f['settled']:,} of them settled; "
    if "aborted" in f:
        told += f"{f['aborted']:,} aborted (never settled, and the gateway was started again), "
    told += f"{f['open']:,} not settled in these rows"
    return told + (f"; {counted(f['before'], 'settlement')} of requests decided before them." if "before" in f else ".")


WORDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "accepted": _accepted,
    "escalated": lambda f: (
        f"{f['upstream']} answered {counted(f['requests'], 'request')} {_of(f['task'])}: "
        f"{listed(f['reasons'])}; {_statuses(f['statuses'])}."
    ),
    "unanswered": lambda f: (
        f"{counted(f['requests'], 'request')} {_of(f['task'])} got no upstream's answer: {listed(f['why'])}."
    ),
    "kept": lambda f: (
        f"{counted(f['requests'], 'request')} {_of(f['task'])} kept: not answered, and sent to nobody but "
        f"tiers (see 4); {f['for_review']:,} of them for a person."
    ),
    "artifact": lambda f: (
        f"{f['version']} is the artifact {f['digest']}: so say {counted(f['decisions'], 'decision')} "
        f"and {counted(f['acts'], 'act')}."
    ),
    "approval": _approval,
    "elsewhere": lambda f: f"Outside these rows, and proved by itself: {_act(f)}.",
    "left": _left,
    "stayed": lambda f: (
        f"No row says that the others were sent anywhere: {f['answered']:,} answered here, {f['kept']:,} kept, "
        f"{f['refused']:,} escalated but held back (policy, key, or every upstream at rest)."
    ),
    "act": lambda f: f"{_capital(_act(f))}.",
    "acts": lambda f: f"{f['who']}: {f['what']}, {counted(f['times'], 'time')}.",
    "feedback": lambda f: f"{f['who']} gave {counted(f['answers'], 'answer')} {_of(f['task'])} ({f['source']}).",
    "rows": lambda f: f"{_span(f)}: {_kinds(f['kinds'])}; from {f['earliest']} to {f['latest']}.",
    "requests": _requests,
    "version": _version,
    "proofs": lambda f: (
        f"Refusals to sign: {f['refusals']:,}; reconciled: {f['reconciles']:,}; changes of keys: "
        f"{f['keys']:,}; starts that found rows from before there were proofs: {f['unproven']:,}."
    ),
}


def worded(kind: str, facts: dict[str, Any]) -> str:
    """Return a statement in words, which follow from its facts alone."""
    return printable(WORDS[kind](facts))


def told_rows(rows: dict[str, Any]) -> str:
    """Return the numbers of the rows that a statement rests on."""
    if not rows["count"]:
        return "[no row]"
    more = f" ... {rows['last']:,}; {rows['count']:,} in all" if rows["count"] > len(rows["some"]) else ""
    return f"[row{'' if rows['count'] == 1 else 's'} {', '.join(f'{each:,}' for each in rows['some'])}{more}]"


def page(answers: dict[str, Any]) -> str:
    """Return answers as text: each question, what was found, the rows it rests on or who only tells it."""
    about = f"request {answers['request']}"
    if answers["request"] is None:
        about = f"rows {answers['first']:,} to {answers['last']:,}"
    task = "" if answers["task"] is None else f", task {answers['task']}"
    lines = [printable(f"Answers from the ledger: {about}{task}; {answers['signed']:,} rows are signed."),
             f"Key: {printable(answers['key'])}"]  # fmt: skip
    for number, (question, asked) in enumerate(QUESTIONS.items(), 1):
        lines += ["", f"{number}. {asked}"]
        found = [each for each in answers["statements"] if each["question"] == question]
        for each in found:
            rests = told_rows(each["rows"]) if each["source"] in ("rows", SEALED) else f"(told by the {each['source']})"
            if each["source"] == SEALED:
                rests = f"(the registry's row, as it was when an act named its digest) {rests}"
            lines += _wrapped(f"{each['text']} {rests}")
        lines += [] if found else ["   Nothing."]
    lines += ["", "Not established:"]
    for text in answers["not_established"]:
        lines += _wrapped(text)
    return "\n".join(lines) + "\n"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(printable(text), 110, initial_indent="   - ", subsequent_indent="     ",
                         break_long_words=False, break_on_hyphens=False)  # fmt: skip


Decision = namedtuple("Decision", "seq time task tier outcome reason version digest threshold audited sensitivity key "
                                  "detail")  # fmt: skip
Settlement = namedtuple("Settlement", "seq served_by status detail cost prompt_tokens")
Act = namedtuple("Act", "seq time who what subject detail")


class Seen:
    """The rows that were checked, as far as answers rest on them; of one task where one is named."""

    def __init__(self, task: str | None) -> None:
        self.task = task
        self.decisions: dict[str, Any] = {}
        self.settlements: dict[str, Any] = {}
        self.audits: dict[tuple[str, str, int], tuple[int, str | None]] = {}
        self.acts: list[Any] = []
        self.feedback: dict[tuple[str, str, str], list[int]] = {}
        self.kinds: Counter[str] = Counter()
        self.numbers: list[int] = []
        self.times: list[int] = []
        self._same: dict[str, str] = {}

    def add(self, told: dict[str, Any]) -> None:
        """Take a row."""
        kind, row = told["kind"], told["row"]
        self.kinds[kind] += 1
        self.numbers.append(row["seq"])
        self.times = [min([*self.times[:1], row["time"]]), max([*self.times[1:], row["time"]])]
        if kind == "decisions":
            self.decisions[row["request_id"]] = self._slim(Decision, row)
        elif kind == "settlements":
            self.settlements[row["request_id"]] = self._slim(Settlement, row)
        elif kind == "audits":
            self.audits[row["request_id"], row["task"], row["version"]] = row["seq"], row.get("detail")
        elif kind == "acts":
            self.acts.append(self._slim(Act, row))
        elif kind == "feedback" and self.task in (None, row["task"]):
            self.feedback.setdefault((row["task"], row["who"], row["source"]), []).append(row["seq"])

    def _slim(self, kind: Any, row: dict[str, Any]) -> Any:
        """Return what is needed of a row; texts that come again are kept once."""
        values = map(row.get, kind._fields)
        return kind(*(self._same.setdefault(each, each) if isinstance(each, str) else each for each in values))

    def wanted(self) -> Iterator[tuple[str, Any, Any]]:
        """Yield id, decision and settlement (or None) of the task's requests."""
        for name, decision in self.decisions.items():
            if self.task in (None, decision.task):
                yield name, decision, self.settlements.get(name)


def by(decision: Any) -> str | None:
    """Return the version that decided, NAME@V or TASK/TIER@V."""
    if decision.version is None:
        return None
    return f"{decision.task}{'' if decision.tier is None else '/' + decision.tier}@{decision.version}"


class Groups:
    """Facts that share a key, and the rows they rest on."""

    def __init__(self) -> None:
        self.found: dict[Any, tuple[list[int], dict[str, Any]]] = {}

    def add(self, key: tuple[Any, ...], rows: Iterable[int], **tallies: str) -> None:
        """Count one more request of a key."""
        numbers, facts = self.found.setdefault(key, ([], {"requests": 0, **{name: Counter() for name in tallies}}))
        numbers += rows
        facts["requests"] += 1
        for name, value in tallies.items():
            facts[name][value] += 1

    def statements(self, question: str, kind: str, names: str) -> Iterator[dict[str, Any]]:
        """Yield them in the order of their keys."""
        for key in sorted(self.found, key=lambda key: json.dumps(key)):
            rows, facts = self.found[key]
            named = dict(zip(names.split(), key))  # noqa: B905 (Python 3.9)
            yield stated(question, kind, {**named, **facts}, rows)


def stated(question: str, kind: str, facts: dict[str, Any], rows: Iterable[int]) -> dict[str, Any]:
    """Return a statement that rests on rows."""
    numbers = sorted(rows)
    told = {"count": len(numbers), "first": numbers[0] if numbers else None, "last": numbers[-1] if numbers else None,
            "some": numbers[:12]}  # fmt: skip
    return {"question": question, "kind": kind, "source": "rows", "facts": facts, "text": worded(kind, facts),
            "rows": told}  # fmt: skip


def statements(seen: Seen, proved: list[Any], first: int | None, last: int | None) -> list[dict[str, Any]]:
    """Return all that follows from the rows, and from `proved`: acts outside of them that are proved one by one."""
    return [*_models(seen), *_data(seen, proved), *_approvals(seen, proved), *_leaving(seen), *_changes(seen),
            *_completeness(seen, first, last)]  # fmt: skip


def _models(seen: Seen) -> Iterator[dict[str, Any]]:
    accepted, escalated, unanswered, kept, reviews = Groups(), Groups(), Groups(), Groups(), Counter[Any]()
    for _, decision, settled in seen.wanted():
        if decision.outcome == "accepted":
            key = decision.task, decision.tier, by(decision), decision.digest, decision.threshold
            accepted.add(key, [decision.seq], reasons=decision.reason)
        elif decision.outcome == "kept":
            kept.add((decision.task,), [decision.seq])
            reviews[decision.task] += (decision.detail or "").startswith("review: ")
        elif settled is not None and settled.served_by == "none":
            why = (settled.detail or f"status {settled.status}").partition(";")[0]
            unanswered.add((decision.task,), [decision.seq, settled.seq], why=why)
        elif settled is not None:
            escalated.add((decision.task, settled.served_by), [decision.seq, settled.seq], reasons=decision.reason,
                          statuses=str(settled.status))  # fmt: skip
    for (task,), (_, facts) in kept.found.items():
        facts["for_review"] = reviews[task]
    yield from accepted.statements("model", "accepted", "task tier by digest threshold")
    yield from escalated.statements("model", "escalated", "task upstream")
    yield from unanswered.statements("model", "unanswered", "task")
    yield from kept.statements("model", "kept", "task")


def task_of(act: Any) -> str | None:
    """Return the task that an act is about, None where it is about no single one."""
    if act.what == "review":
        return (act.detail or "").partition(", task ")[2] or None
    return act.subject.partition("@")[0].partition("/")[0] if act.what in STAGED else None


def _own(seen: Seen) -> list[Any]:
    return [act for act in seen.acts if seen.task is None or task_of(act) in (None, seen.task)]


def _data(seen: Seen, proved: list[Any]) -> Iterator[dict[str, Any]]:
    found: dict[tuple[str, str], tuple[list[int], Counter[str]]] = {}
    named = [(by(each), each.digest, each.seq, "decisions") for _, each, _ in seen.wanted() if each.digest]
    for act in [*_own(seen), *proved]:
        told = ending(act) if act.what in ("promote", "move") else None
        named += [(act.subject, told["digest"], act.seq, "acts")] if told else []
    for version, digest, number, kind in named:
        rows, counts = found.setdefault((str(version), digest), ([], Counter(decisions=0, acts=0)))
        rows.append(number)
        counts[kind] += 1
    for version, digest in sorted(found):
        rows, counts = found[version, digest]
        yield stated("data", "artifact", {"version": version, "digest": digest, **counts}, rows)


def version_facts(values: list[Any]) -> dict[str, Any]:
    """Return what a version's row in the registry says: task, number, family, digest, time, calibration, lineage."""
    task, number, family, digest, created, calibration, lineage = values
    certified, told = json.loads(calibration or "{}"), json.loads(lineage)
    learned, recipe = told.get("learned"), told.get("recipe") or {}
    parents = [told.get("compressed_from"), f"{task}@{recipe['teacher']}" if recipe.get("teacher") else None]
    source = told.get("file") or "a traffic file, whose rows the snapshot's digest names"
    return {
        "version": f"{task}@{number}",
        "digest": digest,
        "family": family,
        "made": moment(created),
        "snapshot": told.get("snapshot"),
        "rows": told.get("rows") or {},
        "source": f"references in this ledger up to row {learned['to']}" if learned else source,
        "recipe": recipe,
        "parents": [each for each in parents if each] + [each["digest"] for each in told.get("behind") or ()],
        **{name: certified.get(name) for name in ("threshold", "risk_upper_bound", "confidence_level")},
    }


def sealed_version(values: list[Any], acts: Iterable[Any]) -> dict[str, Any] | None:
    """Return the statement about a version's row whose digest one of the acts that put it to use names, else None."""
    plain = [b64encode(each.encode()).decode() if isinstance(each, str) else each for each in values]
    told = b"insource registry row\n" + json.dumps(plain, separators=(",", ":")).encode()
    named, subject = f"row {hashlib.sha256(told).hexdigest()})", f"{values[0]}@{values[1]}"
    rows = [act.seq for act in acts if act.what in ("promote", "move") and act.subject == subject
            and (act.detail or "").endswith(named)]  # fmt: skip
    if not rows:
        return None
    return {**stated("data", "version", version_facts(values), rows), "source": SEALED, "sealed": values}


def told_act(act: Any) -> dict[str, Any]:
    """Return an act as facts."""
    return {"row": act.seq, "time": moment(act.time), "who": act.who, "what": act.what, "subject": act.subject,
            "detail": act.detail}  # fmt: skip


def _approvals(seen: Seen, proved: list[Any]) -> Iterator[dict[str, Any]]:
    first: dict[str, Any] = {}
    told: set[int] = set()
    for _, decision, _ in seen.wanted():
        name = by(decision)
        if decision.outcome == "accepted" and name and (name not in first or decision.seq < first[name].seq):
            first[name] = decision
    for name in sorted(first):
        able = [act for act in [*_own(seen), *proved] if act.time <= first[name].time and puts_to_serve(act, name)]
        act = max(able, default=None, key=lambda act: act.seq)
        told |= set() if act is None else {act.seq}
        whose = None if act is None else "steward" if act.who == "steward" else "person"
        facts = {"version": name, "first": first[name].seq, "act": act and told_act(act), "by": whose}
        yield stated("approved", "approval", facts, [first[name].seq, *([act.seq] if act else [])])
    for act in sorted(proved, key=lambda act: act.seq):
        if act.seq not in told:
            yield stated("approved", "elsewhere", told_act(act), [act.seq])


def puts_to_serve(act: Any, version: str) -> bool:
    """Say whether an act has a version accept: made active, or canary, or brought back."""
    told = ending(act)
    if act.what == "rollback":
        return told is not None and told["now"] == version
    moved = act.what == "move" and told is not None and told["to"].startswith("canary at ")
    return bool(act.subject == version and (act.what == "promote" or moved))


def ending(act: Any) -> re.Match[str] | None:
    """Return what insource itself wrote at the end of an act's detail, None where it is of no such form."""
    form = ENDINGS.get(act.what)
    return form.search(act.detail or "") if form else None


def _leaving(seen: Seen) -> Iterator[dict[str, Any]]:
    left, stayed, rows = Groups(), Counter(answered=0, kept=0, refused=0), []
    for name, decision, settled in seen.wanted():
        purpose, upstream, by_rows = _way(seen, name, decision, settled)
        if decision.tier is not None:
            left.add((decision.tier, "tier", decision.sensitivity, decision.key), [decision.seq])
        if purpose not in stayed:
            left.add((upstream, purpose, decision.sensitivity, decision.key), [decision.seq, *by_rows])
        elif decision.tier is None:
            stayed[purpose] += 1
            rows.append(decision.seq)
    yield from left.statements("left", "left", "upstream purpose sensitivity key")
    yield stated("left", "stayed", dict(stayed), rows)


def _way(seen: Seen, name: str, decision: Any, settled: Any) -> tuple[str, str | None, list[int]]:
    """Return where a request went beside its tiers: for what (or how it stayed), to whom, and the rows that say so."""
    if decision.outcome == "kept":
        return "kept", None, []
    if settled is None:
        return "open", None, []
    if decision.outcome == "escalated":
        if settled.served_by != "none":
            return "answer", settled.served_by, [settled.seq]
        return "refused" if settled.detail in NOT_SENT else "failed", None, [settled.seq]
    if decision.audited:
        return _audited(seen, name, decision)
    bought = settled.cost is None or settled.prompt_tokens is not None  # a specialist's own answer costs nothing
    if bought and decision.tier is None and decision.reason == "above_threshold":
        return "label", None, [settled.seq]
    return "answered", None, []


def _audited(seen: Seen, name: str, decision: Any) -> tuple[str, str | None, list[int]]:
    """Return whether a request that was answered here went up as well, as its audit says."""
    audit = seen.audits.get((name, str(by(decision)).rpartition("@")[0], decision.version))
    if audit is None:
        return "open", None, []
    detail = audit[1] or ""
    refused = detail.partition("no reference: ")[2] in NOT_SENT or detail == "no upstream is configured"
    kept_back = refused or detail.endswith("audits were waiting already")
    return ("answered", None, []) if kept_back else ("reference", None, [audit[0]])


def _changes(seen: Seen) -> Iterator[dict[str, Any]]:
    own = sorted(_own(seen), key=lambda act: act.seq)
    yield from (stated("changed", "act", told_act(act), [act.seq]) for act in own if act.what not in ROUTINE)
    routine: dict[tuple[str, str], list[int]] = {}
    for act in own:
        if act.what in ROUTINE:
            routine.setdefault((act.who, act.what), []).append(act.seq)
    for who, what in sorted(routine):
        rows = routine[who, what]
        yield stated("changed", "acts", {"who": who, "what": what, "times": len(rows)}, rows)
    for task, who, source in sorted(seen.feedback):
        rows = seen.feedback[task, who, source]
        facts = {"task": task, "who": who, "source": source, "answers": len(rows)}
        yield stated("changed", "feedback", facts, rows)


def _completeness(seen: Seen, first: int | None, last: int | None) -> Iterator[dict[str, Any]]:
    span = {"first": first, "last": last, "rows": len(seen.numbers), "kinds": dict(seen.kinds)}
    times = {"earliest": moment(seen.times[0]), "latest": moment(seen.times[1])}
    yield stated("complete", "rows", {**span, **times}, seen.numbers)
    starts = [act for act in seen.acts if act.what == "start" and act.who == "insource"]
    started = max((act.seq for act in starts), default=0)
    loose = [each.seq for _, each, settled in seen.wanted() if settled is None]
    facts = {"decided": sum(1 for _ in seen.wanted()), "open": sum(number > started for number in loose)}
    facts["settled"] = facts["decided"] - len(loose)
    if first is None:  # rows about one request hold no start, and nothing about the proofs
        yield stated("complete", "requests", facts, loose)
        return
    facts["aborted"] = len(loose) - facts["open"]
    if seen.task is None:  # of a settlement without its decision nobody knows the task
        facts["before"] = sum(name not in seen.decisions for name in seen.settlements)
    yield stated("complete", "requests", facts, loose)
    noted = {
        "refusals": [act for act in seen.acts if act.what == "not signed"]
        + [act for act in starts if re.search("proofs not (signed|written): ", act.detail or "")],
        "reconciles": [act for act in seen.acts if act.what == "reconcile"],
        "keys": [act for act in seen.acts if act.what == "proof key"],
        "unproven": [act for act in starts if "were written before there were proofs" in (act.detail or "")],
    }
    rows = {act.seq for acts in noted.values() for act in acts}
    yield stated("complete", "proofs", {name: len(acts) for name, acts in noted.items()}, rows)


def check_answers(path: Path, seen: Seen, of: dict[str, Any], keys: list[str], say: Say) -> None:
    """Check answers against the rows of a proof or an export that was found good: `of` is what it says of itself."""
    answers = json.loads(path.read_text("utf-8"))
    about = {"format": ANSWERS, "first": of["first"], "last": of["last"], "request": of["request"],
             "signed": int(of["checkpoint"].split("\n")[1]), "key": of["key"]}  # fmt: skip
    for name, value in about.items():
        if answers[name] != value:
            raise Wrong(f"the answers are about another {name} than the rows: {answers[name]!r}, not {value!r}")
    if set(answers) != {*about, "task", "statements", "proofs", "not_established"}:
        raise Wrong("the answers have other fields than answers have")
    task = answers["task"]
    if task is not None and (of["request"] is not None or not isinstance(task, str) or not task):
        raise Wrong("the answers are of one task, which goes with a span of rows and has a name")
    if answers["not_established"] != list(NOT_ESTABLISHED):
        raise Wrong("the answers do not say what is not established")
    proved = list(proved_acts(answers["proofs"], of, keys))
    told = check_statements(answers["statements"], seen, proved, of)
    text = path.with_suffix(".txt")
    if text.exists() and text.read_bytes() != page(answers).encode():
        raise Wrong(f"{text.name} does not say what {path.name} says")
    alone = "" if task is None else f", of task {task!r} alone,"
    say(f"Established: {len(answers['statements']) - told} statements of {path.name}{alone} follow from these rows"
        + (f", and {text.name} says the same." if text.exists() else "."))  # fmt: skip
    say(f"Not established: {told} statements that no row proves; they are marked as told.")


def check_statements(given: list[dict[str, Any]], seen: Seen, proved: list[Any], of: dict[str, Any]) -> int:
    """Check that statements are those that follow from the rows; return how many others are only told."""
    mine = statements(seen, proved, of["first"], of["last"])
    for said, found in zip_longest((each for each in given if each["source"] == "rows"), mine):
        if said != found:
            said, found = ("nothing" if each is None else f"{each['text']!r}" for each in (said, found))
            raise Wrong(f"the answers say {said} where the rows say {found}")
    digests = {(each["facts"]["version"], each["facts"]["digest"]) for each in mine if each["kind"] == "artifact"}
    told = 0
    for each in given:
        named = each["facts"].get("version"), each["facts"].get("digest")
        if each["source"] == SEALED and sealed_version(each["sealed"], [*seen.acts, *proved]) != each:
            raise Wrong(f"the answers say {each['text']!r}, which is not what the digest in an act was made of")
        if each["source"] not in ("rows", SEALED, *SOURCES):
            raise Wrong(f"the answers name an unknown source, {each['source']!r}")
        if each["kind"] == "version" and named[0] in dict(digests) and named not in digests:
            raise Wrong(f"the registry tells {named[0]} with the digest {named[1]}, and the rows with another one")
        told += each["source"] in SOURCES
    return told


def proved_acts(proofs: list[dict[str, Any]], of: dict[str, Any], keys: list[str]) -> Iterator[Any]:
    """Yield the acts outside the rows that are proved one by one, against the same checkpoint."""
    done: set[int] = set()
    for proof in proofs:
        if proof["checkpoint"] != of["checkpoint"]:
            raise Wrong("a proof among the answers is of another checkpoint")
        rows: list[dict[str, Any]] = []
        check_proof(proof, keys or [of["key"]], [], lambda line: None, rows.append)
        for told in rows:
            act = Act(*map(told["row"].get, Act._fields))
            inside = of["first"] is not None and of["first"] <= act.seq <= of["last"]
            if told["kind"] == "acts" and not inside and act.seq not in done:
                done.add(act.seq)
                yield act


def check(what: Path, keys: list[str], kept: list[str], say: Say, answers: Path | None = None) -> None:
    """Check whatever it is, and the answers that rest on it."""
    if what.is_dir():
        if answers is not None:
            raise Wrong("answers go with a proof or an export, not with a whole ledger")
        check_ledger(what, keys, kept, say)
        return
    seen = Seen(None if answers is None else json.loads(answers.read_text("utf-8"))["task"])
    see = unseen if answers is None else seen.add
    with what.open("rb") as file:
        start = file.read(200)
    if f'"{EXPORT}"'.encode() in start:
        of = check_export(what, keys, kept, say, see)
    else:
        of = check_proof(json.loads(what.read_text("utf-8")), keys, kept, say, see)
    if answers is not None:
        check_answers(answers, seen, of, keys, say)


def main(arguments: list[str], write: Callable[[str], object] = sys.stdout.write) -> int:
    """Run the check; return 0 where all holds, 1 where something does not, 2 for what cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", type=Path, help="a proof, an export, or a ledger's folder")
    parser.add_argument("--key", action="append", default=[], help="a public key, NAME+ID+KEY")
    parser.add_argument("--checkpoint", type=Path, action="append", default=[], help="a checkpoint that was kept")
    parser.add_argument("--answers", type=Path, help="answers.json, as `insource audit show --to` wrote it")
    chosen = parser.parse_args(arguments)

    def say(line: str) -> None:
        write(printable(line) + "\n")

    try:
        kept = [path.read_text("utf-8") for path in chosen.checkpoint]
        check(chosen.what, chosen.key, kept, say, chosen.answers)
    except Wrong as error:
        say(f"WRONG: {error}.")
        return 1
    except (OSError, json.JSONDecodeError, sqlite3.Error) as error:
        say(f"This cannot be read as a proof, an export or a ledger ({type(error).__name__}: {error}).")
        return 2
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        say(f"WRONG: this has not the form of a proof, an export or a ledger ({type(error).__name__}: {error}).")
        return 1
    if not chosen.key:
        say("Not established: whose key this is. Compare it with the one that you were given by another way (--key).")
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    sys.exit(main(sys.argv[1:]))
