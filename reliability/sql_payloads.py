"""Texts that mean something to SQL, and for each a harmless twin of the same shape. It sends nothing."""

from __future__ import annotations

import re

ACTIVE = re.compile(r"%[0-9A-Fa-f]{2}|[A-Za-z'\"`;()=*|,<>\[\]{}$:#!+?~^&_-]|[\uff07\u02bc\u2019\u201d]")
"""What of a text SQL may read as more than a word: quotes, letters of keywords, operators, also when quoted as in
addresses. Blanks, digits, slashes, dots, NUL and other controls stand in the twin as well, and so does @, which means a
version to insource."""

CLASSIC = (
    "' OR '1'='1", "' OR 1=1--", "\" OR \"\"=\"", "') OR ('1'='1", "'; DROP TABLE decisions;--",
    "'; DELETE FROM acts;--",
    "'; UPDATE versions SET stage='active';--", "' UNION SELECT name, sql FROM sqlite_schema--", "'/**/OR/**/1=1#",
    "' AND 1=0 UNION ALL SELECT NULL,NULL,NULL--", "'||(SELECT hex(digest) FROM keys)||'", "admin'--", "\\' OR 1=1--",
    "' OR 'x' LIKE '%", "' OR rowid IS NOT NULL--", "'; ATTACH DATABASE 'x.db' AS x;--",
    "'; PRAGMA writable_schema=1;--",
    "' AND load_extension('x')--", "' HAVING 1=1--", "' ORDER BY 99--", "' GROUP BY 1--", "' LIMIT 0 OFFSET 9--",
    "';VACUUM INTO 'x.db';--", "' COLLATE nocase--", "' GLOB '*", "' ESCAPE 'a", "' IN (SELECT 1)--", "' RETURNING *--",
)  # fmt: skip
QUOTES = (
    "'", "''", "'''", "\"", "\"\"", "`", "``", "[", "]", "\\'", "\\\"", "'\"`", "o'neil", "\"; --", "');",
    "'))", "''--",
)  # fmt: skip
NUMERIC = (
    "1 OR 1=1", "1; DROP TABLE acts", "-1 UNION SELECT 1", "1/0", "0x31 OR 1", "1e309", "1)) OR ((1=1", 
    "9223372036854775808",
    "1 AND randomblob(1000000000)", "NULL", "1--", "1;", "?1", ":task", "@task", "$task", "1,2,3", "CAST(1 AS TEXT)",
)  # fmt: skip
COMMENTS = (
    "--",
    "/*",
    "*/",
    "/**/",
    "';--\n",
    "'/*",
    "*/'",
    "#",
    "-- -",
    ";",
    ";;",
    "'--\r\nDROP TABLE keys",
    "\t'\t--",
)
NULS = ("\0", "'\0 OR 1=1", "\0'; DROP TABLE acts;--", "a\0b", "x'00'", "%00' OR 1=1--", "\\0'", "'||char(0)||'")
JSON = (
    '{"$ne": null}', '{"$gt": ""}', '"]}\' OR 1=1--', "' OR json_valid('{}')--", '\\u0027 OR 1=1--', '["x\' OR 1=1"]',
    "'->>'$.x", '{"a":"\'; DROP TABLE acts;--"}',
)  # fmt: skip
UNICODE = (
    "\uff07 OR 1=1--", "\u02bc OR 1=1--", "\u2019; DROP TABLE acts;--", "%27 OR 1=1--", "%2527 OR 1=1--",
    "%bf%27 OR 1=1--",
    "\u00bf' OR 1=1--", "\u202e'--", "\ufeff' OR 1=1", "\U0001f9fe' OR 1=1--", "e\u0301'--", "\u0000\u02b9' OR 1",
    "%u0027",
    "\u00a0'\u00a0OR\u00a01=1--", "\u2028' OR 1=1--", "ＤＲＯＰ TABLE acts", "' \u00d5R 1=1--",
)  # fmt: skip
LONG = ("'" * 999, "(" * 1_500, "' OR 1=1 " * 90, "?" * 600, "a" * 400 + "'")
PAYLOADS = (*CLASSIC, *QUOTES, *NUMERIC, *COMMENTS, *NULS, *JSON, *UNICODE, *LONG)
WAYS = 4


def payload(number: int) -> str:
    """Return the text of a case; every `len(PAYLOADS) * WAYS` cases they come again, with another number in them."""
    text, way = PAYLOADS[number % len(PAYLOADS)], number // len(PAYLOADS) % WAYS
    if way == 1:
        text = "".join(each.upper() if at % 2 else each.lower() for at, each in enumerate(text))
    elif way == 2:
        text = text.replace(" ", "/**/")
    elif way == 3:
        text = text.replace("'", "''") if "'" in text else f"x' {text}"
    return f"x3-{number}{text}" if text[0] in "'\"`\\%" else f"{text} x3-{number}"


def harmless(text: str) -> str:
    """Return a twin that means nothing to SQL and is as long in the places where that matters."""
    return ACTIVE.sub(lambda found: _word(found[0]), text)


def _word(text: str) -> str:
    """Return a letter for a character, as it is quoted or beyond ASCII; a quoted control or half of a character stays.

    The letter is no hex digit, so that no twin has an escape that its text has not.
    """
    if text[0] == "%":
        return "%7a" if 0x20 <= int(text[1:], 16) < 0x80 else text
    return "z" if text.isascii() else "\u0101"
