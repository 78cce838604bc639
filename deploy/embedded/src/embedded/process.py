"""One supervised process: started, its output kept, restarted when it dies."""

import asyncio
import ctypes
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from determinism import Clock, IdSource, backoff_s

PR_SET_PDEATHSIG: Final = 1
STEADY_S: Final = 10.0
RESTART_FIRST_S: Final = 0.2
RESTART_CAP_S: Final = 5.0
LINE_MAX: Final = 1 << 20

Say = Callable[[str, str], None]
"""Told each line of output: process name, line."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to run."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    folder: Path = field(default_factory=Path.cwd)
    stop_limit_s: float = 20.0


class Supervised:
    """
    A process that is kept running until ``stop``.

    Args:
        command: What to run.
        say: Told each line of output.
        changed: Called after each start.
        clock: Waits between restarts.
        ids: Spreads restarts.
    """

    def __init__(
        self,
        command: Command,
        say: Say,
        changed: Callable[[], None],
        clock: Clock,
        ids: IdSource,
    ) -> None:
        self.command = command
        self.restarts = 0
        self._say = say
        self._changed = changed
        self._clock = clock
        self._ids = ids
        self._process: Process | None = None
        self._is_stopping = False

    @property
    def pid(self) -> int | None:
        """Return the running process's id."""
        process = self._process
        return process.pid if process and process.returncode is None else None

    async def run(self) -> None:
        """Keep the process running; returns after ``stop``."""
        failures = 0
        while not self._is_stopping:
            began = self._clock.monotonic()
            code = await self._run_once()
            if self._is_stopping:
                return
            is_steady = self._clock.monotonic() - began > STEADY_S
            failures = 1 if is_steady else failures + 1
            pause_s = backoff_s(
                failures,
                first_s=RESTART_FIRST_S,
                cap_s=RESTART_CAP_S,
                draw=self._ids.uniform(),
            )
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with {code}"
            self._say(self.command.name, f"ended {how}; again in {pause_s:.1f} s")
            self.restarts += 1
            await self._clock.sleep(pause_s)

    async def stop(self) -> None:
        """End the process: politely, then, when its time is up, for good."""
        self._is_stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(self.command.stop_limit_s):
                await process.wait()
        except TimeoutError:
            self._say(self.command.name, "did not stop in time: killed")
            process.kill()
            await process.wait()

    async def _run_once(self) -> int:
        command = self.command
        process = await asyncio.create_subprocess_exec(
            *command.arguments,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            cwd=command.folder,
            env={**os.environ, **command.environment},
            limit=LINE_MAX,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            start_new_session=True,
        )
        self._process = process
        self._changed()
        if self._is_stopping:  # stop() came while the process was being made
            process.terminate()
        assert process.stdout is not None  # noqa: S101 -- asked for with PIPE
        await self._pump(process.stdout)
        return await process.wait()

    async def _pump(self, output: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await output.readline()
            except ValueError:  # a line above the limit loses its beginning, no more
                continue
            if not line:
                return
            self._say(self.command.name, line.decode(errors="replace").rstrip())


def _die_with_parent() -> None:
    # A killed supervisor takes its processes with it, so `down` finds nothing.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
