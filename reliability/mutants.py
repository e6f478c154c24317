"""Mutants of files: bits flipped, bytes cut, moved and repeated, lengths and numbers made absurd.

It knows bytes only, and draws everything from the random source it is given.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

TEXT = re.compile(rb"[ -~]{3,}")
NUMBER = re.compile(rb"\d+")
ABSURD = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
NUMBERS = (b"0", b"-1", b"1e9", b"4294967295", b"9223372036854775808", b"NaN", b"99999999999999999999999", b"null")

Mutate = Callable[[bytearray, random.Random], None]


def mutant(data: bytes, chance: random.Random) -> bytes:
    """Return a copy of `data` changed in one to four ways; never equal to it."""
    changed = bytearray(data)
    while changed == data:
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            chance.choice(WAYS)(changed, chance)
    return bytes(changed)


def flip_bit(data: bytearray, chance: random.Random) -> None:
    """Flip one bit anywhere."""
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def place(data: bytearray, chance: random.Random) -> int:
    """Return a position, mostly one near a name: there stand types, lengths and dimensions."""
    names = list(TEXT.finditer(data[:200_000])) if chance.random() < 0.7 else []
    if not names:
        return chance.randrange(len(data) + 1)
    found = chance.choice(names)
    return max(0, min(len(data), chance.randint(found.start() - 12, found.end() + 12)))


def _flip_near_a_name(data: bytearray, chance: random.Random) -> None:
    if data:
        data[min(place(data, chance), len(data) - 1)] ^= 1 << chance.randrange(8)


def _cut_the_end(data: bytearray, chance: random.Random) -> None:
    del data[place(data, chance) :]


def _cut_out(data: bytearray, chance: random.Random) -> None:
    start = place(data, chance)
    del data[start : start + chance.choice((1, 2, 8, 64, 1024))]


def _repeat(data: bytearray, chance: random.Random) -> None:
    start, size = place(data, chance), chance.choice((1, 2, 8, 64, 1024))
    data[start:start] = data[start : start + size] * chance.choice((1, 1, 2, 50))


def _move(data: bytearray, chance: random.Random) -> None:
    start, to, size = place(data, chance), place(data, chance), chance.choice((4, 16, 256))
    data[to : to + size] = data[start : start + size]


def _absurd_length(data: bytearray, chance: random.Random) -> None:
    start, width = place(data, chance), chance.choice((1, 2, 4, 8))
    data[start : start + width] = (chance.choice(ABSURD) & (2 ** (8 * width) - 1)).to_bytes(width, "little")


def _absurd_number(data: bytearray, chance: random.Random) -> None:
    """Replace a number that is written out; where there is none, write a long protobuf number."""
    numbers = list(NUMBER.finditer(data[:200_000]))
    if numbers and chance.random() < 0.7:
        found = chance.choice(numbers)
        data[found.start() : found.end()] = chance.choice(NUMBERS)
    else:
        start = place(data, chance)
        data[start : start + 1] = b"\xff" * chance.randrange(1, 10) + b"\x01"


def _noise(data: bytearray, chance: random.Random) -> None:
    start = place(data, chance)
    data[start : start + 16] = chance.randbytes(16)


WAYS: tuple[Mutate, ...] = (
    flip_bit, _flip_near_a_name, _flip_near_a_name, _cut_the_end, _cut_out, _repeat, _move, _absurd_length,
    _absurd_number, _noise,
)  # fmt: skip
