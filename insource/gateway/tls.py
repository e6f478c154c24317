"""TLS by files: a certificate and its private key, checked before anything is served with them.

It knows two files and contexts made of them; when they are read again, the worker is told.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from insource.config import GatewayConfig
from insource.errors import ConfigError


def open_tls(config: GatewayConfig) -> ssl.SSLContext | None:
    """Return a context of TLS 1.2 or newer with the configured files, None where none are; raise ConfigError."""
    if config.tls_cert is None or config.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, config.tls_cert, config.tls_key)
    return context


def serve_with(context: ssl.SSLContext, fresh: ssl.SSLContext) -> None:
    """Have connections to come on `context`, which a server listens with, served with the files of `fresh`.

    A context that files are loaded into anew serves nobody any more where they do not fit, so none is. OpenSSL calls
    back for every connection, also where the client names no server.
    """

    def switch(connection: ssl.SSLObject, name: str | None, listening: ssl.SSLContext) -> None:
        connection.context = fresh

    context.sni_callback = switch


def _load(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    for name, file in (("gateway.tls_cert", certificate), ("gateway.tls_key", key)):
        try:
            file.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"{name} is {str(file)!r}, which cannot be read ({error.strerror}); a PEM file was expected. Check the "
                "path and its permissions."
            ) from error
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise ConfigError(
            f"gateway.tls_cert ({certificate}) and gateway.tls_key ({key}) cannot be served with ({reason}); a PEM "
            "certificate, its issuers after it, and its private key without a password were expected. Correct them."
        ) from error


def _no_password() -> str:
    raise ValueError("the key has a password")
