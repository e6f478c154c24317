"""The wire formats ("dialects"): a body read into a Request, an accepted answer rendered, an error in its envelope.

One file for each dialect; the rest of the gateway comes here and names none of them. It knows no sockets.
"""

from insource.gateway.wire.coding import EVENTS, JSON, Headers, decode, encode, read_headers
from insource.gateway.wire.dialects import DIALECTS, read, render
from insource.gateway.wire.envelopes import broken_off, envelope

__all__ = [
    "DIALECTS",
    "EVENTS",
    "JSON",
    "Headers",
    "broken_off",
    "decode",
    "encode",
    "envelope",
    "read",
    "read_headers",
    "render",
]
