"""
What the platform must live through: kills, a lost NATS, a flood, replicas.

Each scenario hands in tasks, disturbs the platform while they run, waits for every
task's end, and holds our ledger against the vendor's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from contracts.tasks import TaskStatus
from determinism import Clock, SystemClock
from embedded.stack import SERVICES
from embedded.state import ROOT
from testkit.platform import Platform
from testkit.prove_books import Books, settled_books
from testkit.until import until

DOCUMENTS: Final = ROOT / "examples" / "documents"
LETTER: Final = "letter-4711.txt"
END_LIMIT_S: Final = 240.0
BOOKS_LIMIT_S: Final = 60.0
RUNNING_LIMIT_S: Final = 30.0
LATENCY_MS: Final = 700.0
SAMPLE_S: Final = 0.5
CLOCK: Final = SystemClock()

Disturb = Callable[[Platform], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """
    Tasks, and what befalls the platform while they run.

    Args:
        name: In words.
        tasks: How many.
        disturb: What happens once they run.
        latency_ms: How long the vendor takes for each call, so that they overlap.
        running: Calls that must be open before the disturbance.
    """

    name: str
    tasks: int
    disturb: Disturb
    latency_ms: float = LATENCY_MS
    running: int = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a scenario."""

    scenario: str
    tasks: int
    completed: int
    problems: tuple[str, ...]
    """Why tasks did not complete."""
    books: Books
    rss_bytes_max: Mapping[str, int]
    """The most memory that each process had."""
    alarms: tuple[str, ...]
    """Log lines of level error or worse."""
    duration_s: float

    @property
    def is_proven(self) -> bool:
        """Tell whether every task completed and the books agree."""
        return self.completed == self.tasks and not self.books.differences

    def expect_proven(self) -> None:
        """Check that nothing was lost, done twice or billed wrongly."""
        assert self.problems == ()
        assert self.completed == self.tasks
        assert self.books.differences == ()
        assert self.books.lines >= self.books.attempts > self.tasks


def letter_task(text: str | None = None, name: str = LETTER) -> dict[str, Any]:
    """Return the body of the demo task, with another text if one is given."""
    content = (DOCUMENTS / LETTER).read_text() if text is None else text
    return {
        "employee": "invoice-clerk",
        "goal": f"Check the supplier's letter {name}: do its sums add up?",
        "files": [{"name": name, "content": content}],
    }


def kill_service(name: str, tasks: int) -> Scenario:
    """``kill -9`` of one process, in the middle."""

    async def disturb(platform: Platform) -> None:
        await platform.kill(name)

    return Scenario(f"kill -9 {name}", tasks, disturb, running=min(tasks, 3))


def kill_nats(tasks: int, *, wipe: bool) -> Scenario:
    """Kill nats-server, with or without the loss of everything it stored."""

    async def disturb(platform: Platform) -> None:
        await (platform.wipe_nats() if wipe else platform.kill("nats"))

    name = "nats killed, its store deleted" if wipe else "nats killed"
    return Scenario(name, tasks, disturb, running=min(tasks, 3))


def flood(tasks: int) -> Scenario:
    """All at once, and a vendor that answers at once."""

    async def disturb(_platform: Platform) -> None:
        return

    return Scenario(f"{tasks} at once", tasks, disturb, latency_ms=0.0, running=0)


def kill_replicas(tasks: int) -> Scenario:
    """Of two replicas of each service, kill one of each at once."""

    async def disturb(platform: Platform) -> None:
        await asyncio.gather(*(platform.kill(str(each)) for each in SERVICES))

    name = "two replicas, one of each killed"
    return Scenario(name, tasks, disturb, running=min(tasks, 3))


async def play(platform: Platform, scenario: Scenario, clock: Clock = CLOCK) -> Outcome:
    """Play one scenario on a platform that does nothing else."""
    began = clock.monotonic()
    vendor, customer = platform.vendor, platform.customer
    after, log_mark = await vendor.mark(), platform.log_mark()
    memory: dict[str, int] = {}
    await vendor.set_latency(scenario.latency_ms)
    sampling = asyncio.create_task(  # tidy: ended below, whatever happens
        _sample(platform, memory, clock)
    )
    try:
        ids = await customer.submit([letter_task()] * scenario.tasks)
        await until(
            lambda: _are_open(platform, scenario.running),
            RUNNING_LIMIT_S,
            f"{scenario.running} calls to run",
        )
        await scenario.disturb(platform)
        tasks = await customer.await_end(ids, END_LIMIT_S)
    finally:
        sampling.cancel()
        await asyncio.wait({sampling})
        await vendor.set_latency(0.0)
    books = await settled_books(platform, customer, ids, after, BOOKS_LIMIT_S)
    await platform.await_ready()
    done = [task for task in tasks if task.status is TaskStatus.COMPLETED]
    return Outcome(
        scenario=scenario.name,
        tasks=scenario.tasks,
        completed=len(done),
        problems=tuple(str(task.problem) for task in tasks if task not in done),
        books=books,
        rss_bytes_max=memory,
        alarms=tuple(platform.alarms(log_mark)),
        duration_s=clock.monotonic() - began,
    )


async def _are_open(platform: Platform, calls: int) -> bool:
    return len(await platform.vendor.open_calls()) >= calls


async def _sample(platform: Platform, most: dict[str, int], clock: Clock) -> None:
    while True:
        for name, size in platform.rss_bytes().items():
            most[name] = max(size, most.get(name, 0))
        await clock.sleep(SAMPLE_S)
