"""Supervised processes: restarted with backoff, ended on demand."""

import asyncio
import os
import signal
import sys
from dataclasses import dataclass, field
from datetime import datetime

import pytest

from determinism import SeededIds, SystemClock
from embedded.process import LINE_MAX, RESTART_CAP_S, Command, Supervised
from testkit.until import until

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""
PATIENT = "import time; print('up', flush=True); time.sleep(60)"


@dataclass
class QuickClock:
    """The system's time, whose waits are noted and short."""

    waits: list[float] = field(default_factory=list[float])
    system: SystemClock = field(default_factory=SystemClock)

    def now(self) -> datetime:
        return self.system.now()

    def monotonic(self) -> float:
        return self.system.monotonic()

    async def sleep(self, duration_s: float) -> None:
        self.waits.append(duration_s)
        await self.system.sleep(0)


@dataclass
class Kept:
    """A supervised process, its lines and its waits."""

    process: Supervised
    lines: list[str]
    clock: QuickClock

    async def says(self, word: str) -> None:
        """Wait for a word in its output."""

        async def is_said() -> bool:
            return any(word in line for line in self.lines)

        await until(is_said, 10, lambda: f"{word!r} in {self.lines}")


def keep(script: str, *, stop_limit_s: float = 10) -> Kept:
    """Return a Python program, supervised."""
    lines: list[str] = []
    clock = QuickClock()

    def say(name: str, line: str) -> None:
        lines.append(f"{name}: {line}")

    command = Command(
        "child", (sys.executable, "-c", script), stop_limit_s=stop_limit_s
    )
    process = Supervised(command, say, lambda: None, clock, SeededIds(1))
    return Kept(process, lines, clock)


async def test_a_process_that_dies_is_started_again_ever_later() -> None:
    """Each failure doubles the pause, up to the cap; the console says so."""
    kept = keep("raise SystemExit(3)")

    async def has_died_often() -> bool:
        return kept.process.restarts >= 7

    async with asyncio.TaskGroup() as group:
        group.create_task(kept.process.run())
        await until(has_died_often, 30, "seven restarts")
        await kept.process.stop()
    assert kept.clock.waits[0] < kept.clock.waits[2] < kept.clock.waits[4]
    assert max(kept.clock.waits) <= RESTART_CAP_S
    assert "child: ended with 3; again in" in kept.lines[0]


async def test_a_killed_process_is_started_again() -> None:
    """Kill -9 from outside costs a restart and nothing else."""
    kept = keep(PATIENT)
    async with asyncio.TaskGroup() as group:
        group.create_task(kept.process.run())
        await kept.says("up")
        first = kept.process.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await kept.says("ended by SIGKILL")

        async def is_back() -> bool:
            return kept.process.pid not in {None, first}

        await until(is_back, 10, "another process")
        await kept.process.stop()
    assert kept.process.pid is None


async def test_a_deaf_process_is_killed_in_the_end() -> None:
    """A stop is polite for as long as it was told, then it is sure."""
    kept = keep(STUBBORN, stop_limit_s=0.2)
    async with asyncio.TaskGroup() as group:
        group.create_task(kept.process.run())
        await kept.says("deaf")
        await kept.process.stop()
    assert kept.lines[-1] == "child: did not stop in time: killed"


async def test_a_process_stopped_before_it_began_never_runs() -> None:
    """A stop that comes first is not forgotten."""
    kept = keep(PATIENT)
    await kept.process.stop()
    await kept.process.run()
    assert kept.lines == []


@pytest.mark.parametrize("length", [10, 2_000_000])
async def test_lines_of_any_length_pass(length: int) -> None:
    """A line above the limit loses its beginning; the process goes on."""
    kept = keep(f"print('x' * {length}); print('after', flush=True)")
    async with asyncio.TaskGroup() as group:
        group.create_task(kept.process.run())
        await kept.says("after")
        await kept.process.stop()
    assert max(map(len, kept.lines)) <= LINE_MAX
