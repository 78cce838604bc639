"""
Virtual time: an event loop that jumps to its next timer when nothing is ready.

``asyncio.timeout``, ``sleep`` and ``call_later`` all follow it, so an hour of
waiting takes no time and every run of one seed takes the same turns. Two more
things make that exact: tasks and futures hash by the order they were made in, so
that sets of them iterate alike in every process, and what belongs to a crashed
incarnation never runs again, wherever it was waiting.
"""

import asyncio
import contextlib
import contextvars
import heapq
import selectors
import warnings
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol, TypeVar

T = TypeVar("T")

EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""The wall time at which every simulation begins."""


PRUNE_ABOVE: Final = 4_096


class Owner(Protocol):
    """Whoever runs a part of the simulation, and may crash."""

    @property
    def is_alive(self) -> bool:
        """Tell whether anything of it may still run."""
        ...

    def step(self) -> None:
        """Note that one of its callbacks is about to run; it may crash by it."""
        ...


OWNER: contextvars.ContextVar[Owner | None] = contextvars.ContextVar(
    "owner", default=None
)
"""Whose task, timer or callback is running; None is the simulation itself."""


class Deadlock(Exception):
    """Nothing is ready and no timer is set, yet the run has not ended."""


class _JumpingSelector(selectors.SelectSelector):
    """Never waits: tells the loop how long it would have."""

    def __init__(self) -> None:
        super().__init__()
        self.jump: Callable[[float | None], None] = lambda _duration_s: None

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        """Jump to the time that the loop would have waited for."""
        if timeout is None or timeout > 0:
            self.jump(timeout)
        return []


def _may_run(context: contextvars.Context) -> bool:
    owner = context.get(OWNER)
    if owner is None:
        return True
    if owner.is_alive:
        owner.step()
    return owner.is_alive


# The private names below are asyncio's own: a loop that decides what may run has
# to make the handles that it runs, and asyncio has no public way to do that.
class _Handle(asyncio.Handle):
    """Runs only while its owner is alive."""

    def _run(self) -> None:
        if _may_run(self._context):
            super()._run()


class _TimerHandle(asyncio.TimerHandle):
    """Runs only while its owner is alive; equal times keep their order."""

    number: int = 0

    def __lt__(self, other: asyncio.TimerHandle) -> bool:
        # asyncio's heap leaves timers of one time in any order.
        if self.when() == other.when() and isinstance(other, _TimerHandle):
            return self.number < other.number
        return self.when() < other.when()

    def _run(self) -> None:
        if _may_run(self._context):
            super()._run()


class SimulationLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, decided by its program alone."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._made = 0
        self._is_over = False
        self._left: list[_Task] = []
        self._left_max = PRUNE_ABOVE
        selector = _JumpingSelector()
        super().__init__(selector)
        selector.jump = self._jump
        self.set_task_factory(_make_task)

    def time(self) -> float:
        """Return the virtual seconds since the run began."""
        return self._now_s

    def abandon(self) -> None:
        """
        End the run: what is left is dropped, and schedules nothing any more.

        A coroutine that is dropped still runs its ``finally``; here that reaches
        nobody, so that it can neither change the result nor speak.
        """
        self._is_over = True
        with warnings.catch_warnings():
            # What a dropped coroutine had only just made is never awaited.
            warnings.simplefilter("ignore", RuntimeWarning)
            self._drop_all()
        self._ready.clear()  # type: ignore[attr-defined]
        self._scheduled.clear()  # type: ignore[attr-defined]

    def _drop_all(self) -> None:
        for task in self._left:
            with contextlib.suppress(BaseException):
                task.home.run(task.get_coro().close)

    def note(self, task: "_Task") -> None:
        """Keep a task until it is done, so that nothing is collected in mid-run."""
        self._left.append(task)
        if len(self._left) > self._left_max:
            self._left = [each for each in self._left if not each.done()]
            self._left_max = len(self._left) + PRUNE_ABOVE

    def number(self) -> int:
        """Return the next number of this loop: what a task or future hashes by."""
        self._made += 1
        return self._made

    def create_future(self) -> "asyncio.Future[Any]":
        """Make a future that hashes by its number."""
        return _Future(loop=self)

    # Any: asyncio's own signatures.
    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Schedule a callback that runs only while its owner is alive."""
        self._check_closed()  # type: ignore[attr-defined]
        timer = _TimerHandle(when, callback, args, self, context)
        timer.number = self.number()
        if self._is_over:
            return timer
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # noqa: SLF001
        return timer

    def _call_soon(
        self,
        callback: Callable[..., object],
        args: Any,
        context: contextvars.Context | None,
    ) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context)
        if self._is_over:
            return handle
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def _jump(self, duration_s: float | None) -> None:
        if duration_s is None:
            raise Deadlock("nothing is ready and no timer is set")
        self._now_s += duration_s


class _Numbered:
    """Hashes by the order of making, so that sets iterate alike in every run."""

    _number: int

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class _Future(_Numbered, asyncio.Future[Any]):
    """A future whose place in a set depends on nothing but the program."""

    def __init__(self, *, loop: SimulationLoop) -> None:
        self._number = loop.number()
        super().__init__(loop=loop)


class _Task(_Numbered, asyncio.Task[Any]):
    """A task whose place in a set depends on nothing but the program."""

    def __init__(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        loop: SimulationLoop,
        context: contextvars.Context | None = None,
    ) -> None:
        self._number = loop.number()
        self.home = contextvars.copy_context() if context is None else context
        super().__init__(coro, loop=loop, context=self.home)
        # The tasks of a crashed incarnation stay pending for ever, on purpose.
        self._log_destroy_pending = False
        loop.note(self)


def _make_task(
    loop: asyncio.AbstractEventLoop,
    coro: Any,
    context: contextvars.Context | None = None,
) -> _Task:
    assert isinstance(loop, SimulationLoop)
    return _Task(coro, loop=loop, context=context)


class SimulatedClock:
    """
    The Clock of a simulated process.

    Args:
        loop: Whose time it shows.
        skew: How far its wall time is off.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, skew: timedelta = timedelta()
    ) -> None:
        self._loop = loop
        self._skew = skew

    def now(self) -> datetime:
        """Return the virtual wall time."""
        return EPOCH + self._skew + timedelta(seconds=self._loop.time())

    def monotonic(self) -> float:
        """Return the virtual seconds since the run began."""
        return self._loop.time()

    async def sleep(self, duration_s: float) -> None:
        """Return after ``duration_s`` virtual seconds."""
        await asyncio.sleep(duration_s)


def run_simulation(
    main: Callable[[SimulationLoop], Coroutine[Any, Any, T]], *, limit_s: float
) -> T:
    """
    Run a program in virtual time.

    What it leaves behind is never run again, not even to be cleaned up: a crashed
    process has no ``finally``.

    Args:
        main: The program; given the loop that it runs on.
        limit_s: Virtual seconds that it may take.

    Raises:
        Deadlock: It waits for something that cannot come.
        TimeoutError: It took longer than the limit.
    """
    loop = SimulationLoop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(_limited(main(loop), limit_s))
    finally:
        loop.abandon()
        asyncio.set_event_loop(None)
        loop.close()


async def _limited(program: Coroutine[Any, Any, T], limit_s: float) -> T:
    async with asyncio.timeout(limit_s):
        return await program
