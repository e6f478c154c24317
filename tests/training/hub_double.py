"""A small server that answers as a model hub does, and a second one where it keeps its large files. For tests."""

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" + "0" * 34


@dataclass
class HubDouble:
    """What the hub holds and how it misbehaves; `asked` is what came in: path, authorization and range."""

    files: dict[str, bytes] = field(default_factory=dict)
    name: str = "some/model"
    large: tuple[str, ...] = ("model.safetensors",)
    told: dict[str, dict] = field(default_factory=dict)
    answer: dict = field(default_factory=dict)
    status: int = 200
    elsewhere: str | None = None
    linked: str | None = None
    cut: dict[str, int] = field(default_factory=dict)
    cuts: int = 1000
    stall: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def about(self) -> dict:
        """What the API tells of the model."""
        siblings = []
        for name, data in self.files.items():
            git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            each = {"rfilename": name, "size": len(data), "blobId": git}
            if name in self.large:
                each["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            siblings.append(each | self.told.get(name, {}))
        return {"sha": COMMIT, "siblings": siblings, "cardData": {"license": "mit"}} | self.answer

    def paths(self) -> list[str]:
        return [path for path, _, _ in self.asked]


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    hub: HubDouble

    def do_GET(self) -> None:
        hub, path = self.hub, self.path
        hub.asked.append((path, self.headers.get("authorization"), self.headers.get("range")))
        if path.startswith(f"/api/models/{hub.name}/revision/"):
            self.reply(hub.status, json.dumps(hub.about()).encode())
        elif path.startswith(f"/{hub.name}/resolve/{COMMIT}/") or path.startswith("/large/"):
            name = path.partition(COMMIT + "/")[2].partition("?")[0] or path.removeprefix("/large/").partition("?")[0]
            self.file(name)
        else:
            self.reply(401, b"{}")

    def file(self, name: str) -> None:
        hub, data = self.hub, self.hub.files[name]
        if name in hub.large and not self.path.startswith("/large/"):
            linked = hub.linked or hashlib.sha256(data).hexdigest()
            where = hub.elsewhere or f"http://127.0.0.1:{self.server.server_port}"
            self.reply(302, b"", {"location": f"{where}/large/{name}?sign=a%2Fb", "x-linked-etag": f'"{linked}"'})
            return
        start = int((self.headers.get("range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        self.reply(206 if start else 200, data[start:], cut=self.cut(name, start))

    def cut(self, name: str, start: int) -> int | None:
        if name in self.hub.cut and self.hub.cuts:
            self.hub.cuts -= 1
            return self.hub.cut[name]
        return None

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        stall = next((size for name, size in self.hub.stall.items() if name in self.path and body), None)
        if stall is not None and not self.hub.go_on.is_set():
            self.wfile.write(body[:stall])
            self.wfile.flush()
            self.hub.stalled.set()
            self.hub.go_on.wait(60)
            self.close_connection = True
            return
        self.wfile.write(body if cut is None else body[:cut])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


def serve(hub: HubDouble) -> ThreadingHTTPServer:
    """Start a server for it on a free port of this machine; whoever starts it shuts it down."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server
