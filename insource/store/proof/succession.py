"""Which keys may have signed: the first of each log, or the one kept outside, and those that it handed over to.

A key follows another only where a checkpoint that the other one signed covers the act that names it. It judges what
it is given; it reads the acts, and no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import apsw

from insource.store.proof.note import Checkpoint, PublicKey

KEY_ACT, RECONCILE_ACT = "proof key", "reconcile"
_NAMED = f"""
SELECT seq, CAST(iif(what = '{KEY_ACT}', subject, substr(detail, instr(detail, '{KEY_ACT} ') + {len(KEY_ACT) + 1}))
AS BLOB) FROM acts
WHERE what = '{KEY_ACT}' OR (what = 'start' AND who = 'insource' AND instr(detail, '{KEY_ACT} ')) ORDER BY seq
"""
ANY_SIZE = 2**63


@dataclass(frozen=True, slots=True)
class Signed:
    """A checkpoint of some place, the key that signed it (None: none that is known), and whether the rows match it."""

    where: str
    found: Checkpoint
    key: PublicKey | None
    matches: bool


def named_keys(connection: apsw.Connection) -> list[tuple[int, str]]:
    """Return the public keys that the ledger names, with the act that does: each start, and each change of keys."""
    return [(seq, bytes(key).decode("utf-8", "replace")) for seq, key in connection.execute(_NAMED)]


def in_force(
    named: Iterable[tuple[int, PublicKey]], signed: Sequence[Signed], trusted: PublicKey | None
) -> dict[PublicKey, int]:
    """Return the keys that may have signed, each with the largest size that it may: a key that was followed signs the
    act which says so, and nothing after it. `trusted` is the key kept outside; without it each log's first is believed.
    """
    first = _first(named)
    if trusted is not None and trusted not in first:
        return {trusted: ANY_SIZE}
    found: dict[PublicKey, int] = {}
    for log in {key.name: None for key in first}:
        line = [key for key in first if key.name == log]
        if trusted is None or trusted in line:
            found |= _line(line, 0 if trusted is None else line.index(trusted), first, signed)
    return found


def reconciled(
    acts: Sequence[int], named: Sequence[tuple[int, PublicKey]], signed: Sequence[Signed], keys: dict[PublicKey, int]
) -> int:
    """Return the last of the reconciling `acts` after which a new log began and was signed; 0 where there is none."""
    logs: dict[str, int] = {}
    for seq, key in named:
        logs.setdefault(key.name, seq)
    begun = [(seq, max(_sizes(signed, {key for key in keys if key.name == log}), default=0))
             for log, seq in list(logs.items())[1:]]  # fmt: skip
    return max((act for act in acts if any(act < start <= end for start, end in begun)), default=0)


def accepted(signed: Signed, keys: dict[PublicKey, int]) -> bool:
    """Say whether a checkpoint was signed by a key that was in force then."""
    return signed.key is not None and signed.found.size <= keys.get(signed.key, -1)


def _line(
    line: list[PublicKey], start: int, first: dict[PublicKey, int], signed: Sequence[Signed]
) -> dict[PublicKey, int]:
    handed = {key: min(_sizes(signed, {key}, first[following]), default=None) for key, following in pairwise(line)}
    found, at = {}, start
    while (end := handed.get(line[at])) is not None:
        found[line[at]] = end
        at += 1
    found[line[at]] = ANY_SIZE
    if _sizes(signed, found.keys(), first[line[start]]):  # then the acts that name those before it are as they were
        found |= {key: handed[key] or first[following] for key, following in pairwise(line[: start + 1])}
    return found


def _sizes(signed: Sequence[Signed], keys: Iterable[PublicKey], least: int = 0) -> list[int]:
    among = set(keys)
    return [each.found.size for each in signed if each.matches and each.key in among and each.found.size >= least]


def _first(named: Iterable[tuple[int, PublicKey]]) -> dict[PublicKey, int]:
    found: dict[PublicKey, int] = {}
    for seq, key in named:
        found.setdefault(key, seq)
    return found
