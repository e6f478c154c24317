"""A request made ready for the upstream: "task:NAME" is our word, so the upstream's own model name replaces it.

All other values keep their bytes and their order; only the white space between them may go. It knows no upstream.
"""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec

from insource.errors import UpstreamError
from insource.types import Request

TASK_PREFIX = "task:"

_VALUES = msgspec.json.Decoder(dict[str, msgspec.Raw])


def for_upstream(request: Request, model: str | None) -> Request:
    """Return the request as the upstream should see it; raise UpstreamError where "task:NAME" has no upstream name.

    A request that names a real model is returned as it is, whatever told its task; so renaming twice is renaming once.
    """
    if not request.model.startswith(TASK_PREFIX):
        return request
    if model is None:
        raise UpstreamError(
            f"The request names model {request.model[:80]!r} and must go up, but no upstream model is configured for "
            "it; set upstream_model for the task, or model for its upstream."
        )
    body = replace_model(request.body, model) if request.body else b""
    return replace(request, model=model, body=body)


def replace_model(body: bytes, model: str) -> bytes:
    """Return the JSON object `body` with another value for "model"; raise ValueError where it is no JSON object.

    A body with half a surrogate pair, which msgspec does not read, is written anew: its values stay, not their bytes.
    """
    try:
        values = _VALUES.decode(body)
    except msgspec.DecodeError:
        return json.dumps({**json.loads(body), "model": model}).encode()
    values["model"] = msgspec.Raw(msgspec.json.encode(model))
    return msgspec.json.encode(values)
