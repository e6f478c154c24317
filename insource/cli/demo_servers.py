"""A server of insource's own in a process of its own, for the demo: started, found, and stopped cleanly.

It knows a command line and the line in which a server says where it listens.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from insource.errors import InsourceError

_URL = re.compile(r"http://[\w.\[\]:]+?:\d+")
STOP_SECONDS = 30


class Process:
    """`insource ARGUMENTS` in a process of its own; `url` is where it says it listens. Leaving the context stops it."""

    def __init__(self, arguments: list[str], home: Path) -> None:
        self._arguments = [sys.executable, "-m", "insource.cli.main", *arguments]
        self._log = home / f"{'scripted' if 'serve-scripted' in arguments else 'gateway'}.log"
        self.url = ""

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def __enter__(self) -> Self:
        self._errors = self._log.open("w")
        self._process = subprocess.Popen(
            self._arguments, stdout=subprocess.PIPE, stderr=self._errors, text=True, bufsize=1
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found = _URL.search(line)
            if found and "listens" in line:
                self.url = found[0]
                return self
        self.__exit__(None, None, None)
        raise InsourceError(
            f"`insource {' '.join(self._arguments[3:])}` stopped before it listened; its last words are in {self._log}."
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.communicate(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()
