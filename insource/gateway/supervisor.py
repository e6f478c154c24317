"""The gateway's first process: it writes the ledger, keeps the workers running, and passes on what it is told.

It knows processes, signals and the configuration's source; it serves no request and loads nothing that would.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from insource.config import Config
from insource.config.given import Given
from insource.errors import InsourceError, StoreError
from insource.gateway.announcing import start_lines
from insource.gateway.child import Child
from insource.gateway.companion import Companion
from insource.gateway.control import new_loop
from insource.gateway.keyring import has_valid_key
from insource.gateway.limits import LimitKeeper
from insource.gateway.limits_shared import LimitsServer
from insource.gateway.listening import is_loopback, listen, url_of
from insource.gateway.reloading import check_fixed
from insource.gateway.running import Running
from insource.gateway.tls import open_tls
from insource.store.delivery import keep_delivering
from insource.store.ledger import LOCK, Ledger
from insource.store.ledger_server import LedgerServer
from insource.store.lock import owner_of
from insource.store.sync import translated_files

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
METRICS_PREFIX = ".metrics-"
BACKLOG = 2_048
GRACE_SECONDS = 1.5
SWITCH_SECONDS = 0.0002
"""How soon the thread that commits gets Python's lock back from a busy loop; Python's own 5 ms are an age here."""
RELOAD_SECONDS = 30.0
_LOG = logging.getLogger(__name__)

Awaiting = asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class Pace:
    """How soon a worker that died is started again, in seconds.

    At once where it had served for `steady`; else after `first`, twice as long after every further quick death, and
    at most after `longest`.
    """

    first: float = 0.1
    longest: float = 10.0
    steady: float = 5.0

    def after(self, quick_deaths: int) -> float:
        """Return the pause after so many quick deaths in a row."""
        return 0.0 if quick_deaths == 0 else min(self.longest, self.first * 2.0 ** min(quick_deaths - 1, 30))


class Supervisor:
    """Runs a gateway from its configuration's source; `run` does it all.

    `announce` gets the lines to print once requests are taken. `command` starts a worker, with the arguments that
    `run_worker` expects put behind it; `dead` is told the process id of each that has ended. `steward` is the command
    of one further process, kept running beside them once they serve (see `Companion`).
    """

    def __init__(
        self,
        given: Given,
        announce: Callable[[Iterable[str]], None],
        command: Sequence[str],
        *,
        clock: Callable[[], datetime],
        pace: Pace | None = None,
        dead: Callable[[int], None] = lambda pid: None,
        steward: Sequence[str] = (),
    ) -> None:
        self._given = given
        self._config = given.config()
        self._announce = announce
        self._clock = clock
        self._command = command
        self._pace = pace or Pace()
        self._dead = dead
        self._children: dict[int, Child] = {}
        self._environment = dict(os.environ)
        self._stop, self._hurry = asyncio.Event(), asyncio.Event()
        self._reloading = asyncio.Lock()
        self._jobs: set[asyncio.Future[None]] = set()
        self._steward = Companion(steward, self._environment, name="steward", stop=self._stop, after=self._pace.after,
                                  steady=self._pace.steady, ended=self._steward_ended)  # fmt: skip

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT, then drain; return 0, or 1 where a second signal cut that short.

        Raises ConfigError for an address beyond loopback without keys or one that is taken, StoreBusy where the ledger
        has its writer already, and whatever else keeps the first workers from starting.
        """
        sys.setswitchinterval(SWITCH_SECONDS)
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(self._run())

    async def _run(self) -> int:
        limits, home = self._config.gateway, self._config.home
        with ExitStack() as opened:
            open_tls(limits)
            beyond = not is_loopback(limits.host)
            keys = beyond and await asyncio.to_thread(has_valid_key, home, self._clock())
            self._listening = opened.enter_context(listen(limits.host, limits.port, keys=keys))
            self._listening.listen(BACKLOG)
            self._share_metrics(opened)
            try:
                for number in range(1, limits.workers + 1):  # they import while the ledger is opened
                    self._children[number] = await self._spawn()
                days, witness = self._config.store.retention_days, self._config.store.witness
                self._ledger = opened.enter_context(
                    Ledger.open(home, clock=self._clock, retention_days=days, witness=witness)
                )
                self._server = LedgerServer(self._ledger)
                kept = LimitKeeper(home, self._clock)
                opened.callback(kept.close)
                self._limits = LimitsServer(kept)
                self._running = opened.enter_context(Running(home, self._url(), limits.workers))
                self._watch_signals()
                delivering = asyncio.ensure_future(
                    keep_delivering(home, self._ledger.feedback_now, self._ledger.act_now)
                )
                try:
                    await self._serve()
                finally:
                    delivering.cancel()
                    await asyncio.wait((delivering,))  # before the ledger closes
            finally:
                await self._kill_all()
        return 1 if self._hurry.is_set() else 0

    async def _serve(self) -> None:
        """Start all workers, keep them running until told to stop, then let them end."""
        for child in self._children.values():
            await self._admit(child)
        starting = [asyncio.ensure_future(self._first(number)) for number in self._children]
        ready: Awaiting = asyncio.gather(*starting)
        stop: Awaiting = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({ready, stop}, return_when=asyncio.FIRST_COMPLETED)
        for job in starting:  # else one would start again what ends from now on
            job.cancel()
        if not self._stop.is_set():
            ready.result()  # raises what a worker says keeps it from starting
            self._announce(start_lines(self._config, self._url(), self._ledger.keeper, self._clock()))
        keepers: Awaiting = asyncio.gather(self._steward.run(), *(self._keep(number) for number in self._children))
        await asyncio.wait({keepers, stop}, return_when=asyncio.FIRST_COMPLETED)
        await self._drain(keepers)

    async def _spawn(self) -> Child:
        return await Child.spawn(self._command, self._listening, self._environment)

    async def _admit(self, child: Child) -> None:
        """Take a worker's rows from now on, and have it serve."""
        await self._server.serve(child.ledger)
        await self._limits.serve(child.limits)
        child.start(self._given)

    async def _first(self, number: int) -> None:
        """Return once a worker serves; the others may serve already, so one that is killed is started again.

        Raises what it says keeps it from starting, or that it ended by itself.
        """
        deaths = 0
        while True:
            child = self._children[number]
            try:
                return await child.ready
            except InsourceError:
                if (code := await child.ended()) >= 0:
                    raise
            deaths += 1
            if not await self._replace(number, code, deaths):
                return

    async def _keep(self, number: int) -> None:
        """Start a worker again whenever it ends, until told to stop."""
        quick_deaths = 0
        while True:
            child = self._children[number]
            code = await child.ended()
            lived = asyncio.get_running_loop().time() - child.started
            quick_deaths = quick_deaths + 1 if lived < self._pace.steady else 0
            if not await self._replace(number, code, quick_deaths):
                return

    async def _replace(self, number: int, code: int, quick_deaths: int) -> bool:
        """Start another worker in the place of one that ended; return False where it is told to stop before."""
        child = self._children[number]
        self._dead(child.pid)
        if self._stop.is_set():
            return False
        self._record_end(number, child, code)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), self._pace.after(quick_deaths))
            return False
        self._children[number] = child = await self._spawn()
        await self._admit(child)
        if self._stop.is_set():
            child.signal(signal.SIGTERM)
        return True

    def _record_end(self, number: int, child: Child, code: int) -> None:
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        if child.ready.done() and (error := child.ready.exception()) is not None:
            how = f"{how}; {error}"
        if code != 0:
            _LOG.error("worker %d (process %d) ended: %s; it is started again", number, child.pid, how)
        with suppress(StoreError):
            self._ledger.act("insource", "worker ended", f"worker {number}", f"process {child.pid}, {how}")

    async def _drain(self, keepers: Awaiting) -> None:
        """Have the workers finish what is under way; end those that take longer than they may."""
        self._listening.close()  # else what connects now would wait for nobody
        for child in self._children.values():
            child.signal(signal.SIGTERM)
        hurry: Awaiting = asyncio.ensure_future(self._hurry.wait())
        seconds = self._config.gateway.drain_s + GRACE_SECONDS
        await asyncio.wait({keepers, hurry}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for child in self._children.values():
            child.signal(signal.SIGKILL)
        await keepers
        hurry.cancel()

    async def _kill_all(self) -> None:
        for child in self._children.values():
            child.signal(signal.SIGKILL)
            await child.ended()

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_stop)
        loop.add_signal_handler(signal.SIGHUP, self._told_to_reload)

    def _told_to_stop(self) -> None:
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def _told_to_reload(self) -> None:
        job = asyncio.ensure_future(self._reload())
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    def _steward_ended(self, pid: int, how: str) -> None:
        with suppress(StoreError):
            self._ledger.act("insource", "steward ended", "steward", f"process {pid}, {how}")

    async def _reload(self) -> None:
        """Take over the file as it is now on every worker, or on none; tell ledger, log, metrics and status file."""
        async with self._reloading:
            try:
                fresh, config = await asyncio.to_thread(self._read_again)  # the ledger is written meanwhile
                check_fixed(self._config, config)
                await asyncio.wait_for(self._hand_out(fresh), RELOAD_SECONDS)
            except Exception as error:  # whatever a file can bring about must be told, not only what was foreseen
                said = _why(error)
                _LOG.error("the new configuration is refused, the one before is served: %s", said)
                self._told("refused", said)
            else:
                self._config = config
                self._steward.again()
                self._told("loaded", f"{fresh.path} is served by {len(self._children)} workers")

    def _read_again(self) -> tuple[Given, Config]:
        fresh = self._given.again()
        return fresh, fresh.config()

    async def _hand_out(self, fresh: Given) -> None:
        """Give the workers the new source, one after another; take it back everywhere where one refuses it."""
        before, self._given = self._given, fresh  # what is started from now on starts with it
        try:
            while old := [child for child in self._children.values() if child.given is not fresh and child.alive]:
                await old[0].reload(fresh)
        except BaseException:
            self._given = before
            for child in self._children.values():
                if child.given is fresh:
                    with suppress(InsourceError):
                        await child.reload(before)
            raise

    def _told(self, result: str, message: str) -> None:
        with suppress(StoreError):
            self._ledger.act("insource", f"configuration {result}", self._given.path, message)
            self._running.reloaded(result, message, self._clock())
        for child in self._children.values():
            if child.alive:
                child.count(result)
                break

    def _url(self) -> str:
        return url_of(self._listening, tls=self._config.gateway.tls_cert is not None)

    def _share_metrics(self, opened: ExitStack) -> None:
        """Make the folder through which any worker tells the metrics of all; those of dead gateways go."""
        home = self._config.home
        with translated_files(home):
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in home.glob(f"{METRICS_PREFIX}*"):
                if owner_of(home / LOCK) is None:
                    shutil.rmtree(left, ignore_errors=True)
            folder = tempfile.mkdtemp(prefix=METRICS_PREFIX, dir=home)
        opened.callback(shutil.rmtree, folder, ignore_errors=True)
        self._environment[METRICS_FOLDER] = os.environ[METRICS_FOLDER] = folder
        opened.callback(os.environ.pop, METRICS_FOLDER, None)


def _why(error: Exception) -> str:
    """Return why a configuration was not taken over."""
    if isinstance(error, TimeoutError):
        return f"a worker did not take it over within {RELOAD_SECONDS:.0f} s"
    return str(error) if isinstance(error, InsourceError) else f"it cannot be read ({type(error).__name__})"
