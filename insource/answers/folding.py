"""A reply's text reduced to what it says: one label, or one JSON object, whatever it is wrapped in.

It knows single texts, not the set of answers that they belong to.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import msgspec

_FENCE = re.compile(r"\s*```[\w+-]*[ \t]*\r?\n(.*?)\r?\n?[ \t]*```\s*", re.DOTALL)
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "«": "»", "„": "“"}
_PASSES = 32


def fold(raw: str) -> str | None:
    """Return the label a reply says, or None where it says nothing.

    Unicode NFKC and case folding; a code fence, surrounding quotes or backticks and one closing full stop fall away
    (an ellipsis stays); blanks inside become one space. What would leave nothing is kept: "." is the label ".".
    A label folds to itself.
    """
    text = unfenced(raw)
    for _ in range(_PASSES):
        folded = " ".join(_bare(unicodedata.normalize("NFKC", text).casefold()).split())
        if folded == text:
            break
        text = folded
    return text or None


def json_object(raw: str) -> dict[str, Any] | None:
    """Return the JSON object that a reply is, bare or in a code fence, or None where it is anything else."""
    text = unfenced(raw)
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def canonical(value: Any) -> str:
    """Return a JSON value as its one canonical text: compact, keys sorted."""
    return msgspec.json.encode(value, order="deterministic").decode()


def unfenced(raw: str) -> str:
    """Return what stands inside a Markdown code fence, or the text itself where there is none."""
    match = _FENCE.fullmatch(raw) if "```" in raw else None
    return match.group(1) if match else raw


def _bare(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text.endswith(".") and not text.endswith(".."):
        text = text[:-1].rstrip() or text
    while len(text) > 2 and _QUOTES.get(text[0]) == text[-1] and text[1:-1].strip():
        text = text[1:-1].strip()
    return text
