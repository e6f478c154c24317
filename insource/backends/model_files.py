"""Model files are hostile until checked: what a file must look like before a native parser sees its bytes.

Plain files only, no links, no pickles, nothing outside the folder; sizes, nesting and references are checked here, in
Python, without a parser of anyone else. It knows no model: what the arrays mean is the engines' business.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, NoReturn

from numpy.typing import NDArray

from insource.backends.onnx_bytes import check_onnx
from insource.backends.refused_file import RefusedFile

LARGEST_ARRAYS = 4 * 1024**3
LARGEST_ONNX = 2 * 1024**3 - 1
LARGEST_TOKENIZER = 64 * 1024**2
LARGEST_TEXT = 1024**2
LARGEST_HEADER = 1024**2
MOST_ARRAYS = 10_000
MOST_DIMENSIONS = 8
MOST_WORDS = 2_000_000
MOST_ADDED = 10_000
LONGEST_WORD = 1_000
WIDTHS = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2, "U32": 4,
    "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
MAGICS = {
    b"PK\x03\x04": "a zip archive (torch and joblib keep pickles in those)", b"\x1f\x8b": "a gzip file",
    b"\x93NUMPY": "a numpy file (which may hold a pickle)", b"GGUF": "a GGUF file", b"\x89HDF": "an HDF5 file",
    b"\x7fELF": "a program", b"#!": "a script", b"BZh": "a bzip2 file", b"\xfd7zXZ": "an xz file",
    b"7z\xbc\xaf": "a 7z archive", b"Rar!": "a rar archive", b"SQLite format 3": "a database",
}  # fmt: skip
TOKENIZERS = frozenset({"WordPiece", "BPE", "Unigram", "WordLevel"})
PARTS = frozenset({
    "Sequence", "BertNormalizer", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Lowercase", "StripAccents", "Strip", "Replace",
    "Prepend", "Precompiled", "BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Punctuation", "Digits", "Metaspace",
    "ByteLevel", "TemplateProcessing", "BertProcessing", "RobertaProcessing", "WordPiece", "BPEDecoder", "Fuse",
    "ByteFallback",
})  # fmt: skip
"""The normalizers, pre-tokenizers, post-processors and decoders that may be named; none runs a foreign pattern."""

SPACES = {"Regex": " {2,}"}
"""The one regular expression that is taken: runs of spaces, as every tokenizer made from sentencepiece names it."""


def read_arrays(path: Path, *, links: bool = False) -> dict[str, NDArray[Any]]:
    """Return the arrays of a safetensors file, checked first; RefusedFile (a ValueError) says what is wrong with it.

    `links` allows symbolic and hard links, for a folder that a person named. Raises OSError where it cannot be read.
    """
    from safetensors.numpy import load

    data = read_plain(path, LARGEST_ARRAYS, links=links)
    check_arrays(data)
    return load(data)


def read_onnx(path: Path, *, links: bool = False) -> bytes:
    """Return the bytes of an ONNX file, checked; raises as `read_arrays`."""
    data = read_plain(path, LARGEST_ONNX, links=links)
    check_onnx(data)
    return data


def read_tokenizer(path: Path, *, links: bool = False) -> str:
    """Return the text of a tokenizer.json, checked; raises as `read_arrays`."""
    data = read_plain(path, LARGEST_TOKENIZER, links=links)
    check_tokenizer(data)
    return data.decode("utf-8")


def read_text(path: Path) -> str:
    """Return a small text file, such as trunk.json; raises as `read_arrays`."""
    return read_plain(path, LARGEST_TEXT).decode("utf-8")


def read_plain(path: Path, largest: int, *, links: bool = False) -> bytes:
    """Return the bytes of a plain file of at most `largest` bytes that is no pickle and no archive.

    Never follows or accepts a link, symbolic or hard, unless `links`: a link is a way out of the folder.
    """
    follow = 0 if links else os.O_NOFOLLOW
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | follow)
    except OSError as error:
        if path.is_symlink() and not links:
            raise RefusedFile(f"{path.name} is a symbolic link; a plain file was expected") from error
        raise
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        os.close(descriptor)
        raise RefusedFile(f"{path.name} is not a plain file")
    with os.fdopen(descriptor, "rb") as file:
        if about.st_nlink != 1 and not links:
            raise RefusedFile(f"{path.name} has {about.st_nlink} hard links; a file of its own was expected")
        if about.st_size > largest:
            raise RefusedFile(f"{path.name} has {about.st_size:,} bytes; at most {largest:,} were expected")
        data = file.read(about.st_size + 1)
    if len(data) != about.st_size:
        raise RefusedFile(f"{path.name} changed while it was read")
    refuse_by_content(data)
    return data


def refuse_by_content(data: bytes) -> None:
    """Raise RefusedFile for pickles of any protocol, archives and other formats, whatever the file is called."""
    for magic, what in MAGICS.items():
        if data.startswith(magic):
            raise RefusedFile(f"it is {what}; safetensors, ONNX or JSON was expected")
    framed = len(data) > 2 and data[0] == 0x80 and data[1] <= 5 and data[-1:] == b"."
    old = data[-1:] == b"." and data[:1] in (b"(", b"c", b"]", b"}", b"I", b"S", b"V", b"L", b"F", b"N")
    if (framed or old) and not _is_headed(data):
        raise RefusedFile("it is a pickle, which can run code; safetensors, ONNX or JSON was expected")


def _is_headed(data: bytes) -> bool:
    """Whether a file begins as safetensors do: its length may look like a pickle's first bytes, but ends in zeros."""
    return int.from_bytes(data[:8], "little") <= LARGEST_HEADER and data[8:9] == b"{"


def check_arrays(data: bytes) -> None:
    """Raise RefusedFile where bytes are not a safetensors file whose arrays fill it exactly, one after the other."""
    if len(data) < 8:
        raise RefusedFile(f"{len(data)} bytes; a safetensors file has at least 8")
    length = int.from_bytes(data[:8], "little")
    if length > LARGEST_HEADER or 8 + length > len(data):
        raise RefusedFile(f"its header is said to have {length:,} bytes; the file has {len(data):,}")
    if data[8:9] != b"{":
        raise RefusedFile("its header does not begin with {")
    header = parse_json(data[8 : 8 + length])
    if len(header) > MOST_ARRAYS:
        raise RefusedFile(f"{len(header):,} arrays; at most {MOST_ARRAYS:,} were expected")
    notes = header.pop("__metadata__", {})
    if type(notes) is not dict or not all(type(value) is str for value in notes.values()):
        raise RefusedFile("__metadata__ is not a mapping of texts")
    place = 0
    for start, stop, name in sorted(_extent(name, told) for name, told in header.items()):
        if start != place:
            raise RefusedFile(f"array {name!r} starts at {start:,}, expected {place:,}: no gap and no overlap")
        place = stop
    if place != len(data) - 8 - length:
        raise RefusedFile(f"its arrays end at {place:,}; the file has {len(data) - 8 - length:,} bytes for them")


def check_tokenizer(data: bytes) -> None:
    """Raise RefusedFile where bytes are not a tokenizer.json of known parts and sane sizes."""
    tokenizer = parse_json(data)
    model = tokenizer.get("model")
    if type(model) is not dict or model.get("type", "WordPiece") not in TOKENIZERS:
        raise RefusedFile(f"its model is not one of {', '.join(sorted(TOKENIZERS))}")
    vocabulary: Any = model.get("vocab")
    if type(vocabulary) not in (dict, list) or not 0 < len(vocabulary) <= MOST_WORDS:
        raise RefusedFile(f"its vocabulary is empty, has more than {MOST_WORDS:,} words, or is none")
    added: Any = tokenizer.get("added_tokens") or []
    if type(added) is not list or len(added) > MOST_ADDED or not all(type(each) is dict for each in added):
        raise RefusedFile(f"its added tokens are no list of at most {MOST_ADDED:,}")
    highest = 2 * (len(vocabulary) + len(added)) + 1_000
    numbers = list(vocabulary.values()) if type(vocabulary) is dict else []
    for number in numbers + [each.get("id") for each in added]:
        if type(number) is not int or not 0 <= number <= highest:
            raise RefusedFile(f"a word has the number {number!r}; 0 to {highest:,} was expected")
    if not 0 < _whole(model.get("max_input_chars_per_word", 100)) <= LONGEST_WORD:
        raise RefusedFile(f"max_input_chars_per_word is not between 1 and {LONGEST_WORD:,}")
    merges: Any = model.get("merges") or []
    if type(merges) is not list or len(merges) > MOST_WORDS:
        raise RefusedFile(f"its merges are no list of at most {MOST_WORDS:,}")
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        _check_part(tokenizer.get(part), part)
    for part, size in (("padding", "pad_to_multiple_of"), ("truncation", "max_length")):
        _check_limits(tokenizer.get(part), part, size)


def parse_json(data: bytes) -> dict[str, Any]:
    """Return a JSON object; RefusedFile for another value, a name that stands twice, NaN, or endless nesting."""
    try:
        found: Any = json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, RefusedFile) else RefusedFile(f"it is not JSON ({error})") from error
    if type(found) is not dict:
        raise RefusedFile(f"it is a JSON {type(found).__name__}; an object was expected")
    return found


def _extent(name: str, told: Any) -> tuple[int, int, str]:
    """Return where an array starts and stops, its shape and type checked against that."""
    if type(told) is not dict or told.keys() != {"dtype", "shape", "data_offsets"}:
        raise RefusedFile(f"array {name!r} is not told by dtype, shape and data_offsets")
    dtype, shape, offsets = told["dtype"], told["shape"], told["data_offsets"]
    if type(dtype) is not str or dtype not in WIDTHS:
        raise RefusedFile(f"array {name!r} has the type {dtype!r}; one of {', '.join(WIDTHS)} was expected")
    for numbers, most in ((shape, MOST_DIMENSIONS), (offsets, 2)):
        if type(numbers) is not list or len(numbers) > most or not all(type(n) is int and n >= 0 for n in numbers):
            raise RefusedFile(
                f"array {name!r} has shape {shape!r} and offsets {offsets!r}; few whole numbers are taken"
            )
    if len(offsets) != 2 or offsets[1] - offsets[0] != prod(shape) * WIDTHS[dtype]:
        raise RefusedFile(f"array {name!r} of shape {shape} and type {dtype} does not fill its offsets {offsets}")
    return offsets[0], offsets[1], name


def _check_part(part: Any, where: str, depth: int = 0) -> None:
    """Walk one component of a tokenizer and those inside it."""
    if part is None:
        return
    if type(part) is not dict or part.get("type") not in PARTS or depth > 4:
        kind = part.get("type") if type(part) is dict else part
        raise RefusedFile(f"its {where} is {kind!r}; a known kind was expected")
    pattern = part.get("pattern")
    if pattern is not None and pattern != SPACES and (type(pattern) is not dict or set(pattern) != {"String"}):
        raise RefusedFile(f"its {where} has the pattern {pattern!r}; only a plain text, or {SPACES}, is taken")
    if part["type"] == "TemplateProcessing":
        _check_template(part)
    for key in ("normalizers", "pretokenizers", "processors", "decoders"):
        inside = part.get(key, [])
        if type(inside) is not list or len(inside) > 32:
            raise RefusedFile(f"its {where} has no short list of {key}")
        for each in inside:
            _check_part(each, where, depth + 1)


def _check_template(part: dict[str, Any]) -> None:
    """Check that a template names only tokens it defines; tokenizers panics at others once a text comes."""
    marks = part.get("special_tokens")
    for key in ("single", "pair"):
        pieces = part.get(key)
        if type(pieces) is not list or len(pieces) > 64 or type(marks) is not dict:
            raise RefusedFile(f"its template has no short list {key!r}, or defines no tokens")
        for piece in pieces:
            kind, told = next(iter(piece.items())) if type(piece) is dict and len(piece) == 1 else ("", None)
            named = told.get("id") if type(told) is dict else None
            if not (kind == "Sequence" and named in ("A", "B") or kind == "SpecialToken" and named in marks):
                raise RefusedFile(f"its template names {named!r}, which it does not define")
    for mark in marks.values() if type(marks) is dict else ():
        if type(mark) is not dict or type(mark.get("ids")) is not list or not mark["ids"]:
            raise RefusedFile("its template has a token without a number")


def _check_limits(told: Any, where: str, size: str) -> None:
    """Check that padding and truncation ask for no absurd lengths."""
    if told is None:
        return
    if type(told) is not dict:
        raise RefusedFile(f"its {where} is {told!r}")
    strategy = told.get("strategy")
    fixed = strategy.get("Fixed", 0) if type(strategy) is dict else 0
    for number in (told.get(size) or 0, told.get("stride", 0), fixed):
        if not 0 <= _whole(number) <= LARGEST_TEXT:
            raise RefusedFile(f"its {where} asks for a length of {number!r}")


def _whole(value: Any) -> int:
    return value if type(value) is int else -1


def _once(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RefusedFile("a name stands twice in its JSON")
    return found


def _no_constant(text: str) -> NoReturn:
    raise RefusedFile(f"its JSON holds {text}")
