"""The gateways that ours is compared with, each started as its own documentation says, with its logging off.

They live outside the project's environment: `scripts/peers` installs LiteLLM into .peers/litellm; nginx is Debian's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LITELLM = Path(".peers/litellm/bin/litellm")
NGINX_CONF = """
worker_processes {workers}; pid {folder}/nginx.pid; error_log {folder}/nginx.err; daemon off;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  upstream api {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port}; keepalive_requests 100000000;
    location / {{ proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""
LITELLM_CONF = """
model_list:
  - model_name: gpt-4o
    litellm_params: {{model: openai/gpt-4o, api_base: "http://127.0.0.1:{upstream}/v1", api_key: sk-bench}}
litellm_settings: {{telemetry: false, set_verbose: false, turn_off_message_logging: true}}
general_settings: {{disable_spend_logs: true}}
"""


@contextmanager
def nginx(folder: Path, port: int, upstream: int, workers: int) -> Iterator[bool]:
    """Run nginx's proxy_pass with connections kept alive; yields False where nginx is not installed."""
    found = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(found).exists():
        yield False
        return
    conf = folder / "nginx.conf"
    conf.write_text(NGINX_CONF.format(folder=folder, port=port, upstream=upstream, workers=workers))
    with _running([found, "-c", str(conf)], folder / "nginx.log", f"http://127.0.0.1:{port}/", {}):
        yield True


@contextmanager
def litellm(folder: Path, port: int, upstream: int, workers: int) -> Iterator[bool]:
    """Run the LiteLLM proxy; yields False where `scripts/peers` has not installed it."""
    if not LITELLM.exists():
        yield False
        return
    conf = folder / "litellm.yaml"
    conf.write_text(LITELLM_CONF.format(upstream=upstream))
    command = [str(LITELLM), "--config", str(conf), "--port", str(port), "--host", "127.0.0.1"]
    command += ["--num_workers", str(workers)]
    allowed = {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true", "LITELLM_LOG": "ERROR"}
    with _running(command, folder / "litellm.log", f"http://127.0.0.1:{port}/health/liveliness", allowed):
        yield True


@contextmanager
def _running(command: list[str], log: Path, url: str, env: dict[str, str]) -> Iterator[None]:
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **env})
        try:
            _wait(url, process)
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        if process.poll() is not None:
            raise SystemExit(f"{process.args} stopped; its log says why")
        try:
            urllib.request.urlopen(url, timeout=1)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"{process.args} was not ready in 120 s")
