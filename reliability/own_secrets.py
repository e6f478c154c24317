"""The secrets that insource itself makes or is given as files: where each may stand, and in which forms to look for it.

Virtual keys stand nowhere; the key of the proofs and the keys of the texts in a file of their own; that of TLS where
its owner put it. It knows files and forms, and looks at nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from insource.store.keys import ID_LENGTH, PREFIX

PROOFS, TEXTS, TLS, VIRTUAL = "the key of the proofs", "a key of texts", "the key of TLS", "a virtual key"
AT_HOME = {PROOFS: ("proof/key",), TEXTS: ("content_keys.db", "content_keys.db-wal")}
"""The files of a home in which one belongs."""


def forms_of_key(key: str) -> Iterator[bytes]:
    """Yield the secret part of a virtual key: whole, cut, in base64 at each offset of what it may follow."""
    secret = key[len(PREFIX) + ID_LENGTH :].encode()
    yield secret[:20]
    for offset in range(3):
        yield base64.b64encode(b"x" * offset + secret)[4 if offset else 0 : -4]


def forms_of_bytes(secret: bytes) -> Iterator[bytes]:
    """Yield a binary key as it is, as hex digits, and in base64 at each offset."""
    yield secret
    yield secret.hex().encode()
    for offset in range(3):
        yield base64.b64encode(b"x" * offset + secret)[4 if offset else 0 : -4]


def own_forms(home: Path, pem: Path, virtual: Sequence[str]) -> Iterator[tuple[bytes, str]]:
    """Yield every form of every own secret: those of the home, of TLS (the key in `pem`), and the virtual keys."""
    for key in virtual:
        yield from ((form, VIRTUAL) for form in forms_of_key(key))
    yield from ((form, TLS) for form in (*lines_of(pem), *forms_of_bytes(number_of(pem))))
    for what, secret in at_home(home):
        yield from ((form, what) for form in forms_of_bytes(secret))


def at_home(home: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the binary secrets of a home, each with its name."""
    data = (home / "proof" / "key").read_text().strip().split("+", 4)[-1]
    yield PROOFS, base64.b64decode(data)[1:]
    connection = apsw.Connection(str(home / "content_keys.db"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        for (key,) in connection.execute("SELECT key FROM keys UNION ALL SELECT names FROM secrets").fetchall():
            yield TEXTS, key
    finally:
        connection.close()


def make_tls(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for loopback and its key; return both paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x2")]), datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(),
                                   now - timedelta(days=1), now + timedelta(days=1))  # fmt: skip
    files = folder / "x2.crt", folder / "x2.key"
    files[0].write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                           serialization.NoEncryption()))  # fmt: skip
    return files


def number_of(pem: Path) -> bytes:
    """Return the private number of the key in a PEM file."""
    key = serialization.load_pem_private_key(pem.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.private_numbers().private_value.to_bytes(32, "big")


def lines_of(pem: Path) -> Iterator[bytes]:
    """Yield the lines of a PEM file that hold its key; the first begins like every such file's."""
    yield from [line for line in pem.read_bytes().splitlines() if not line.startswith(b"-")][1:]
