"""
Group commit: one thread writes, many transactions share one fsync.

    queue ──BEGIN IMMEDIATE──► [SAVEPOINT closure RELEASE]* ──COMMIT──► outcomes

The thread takes what is queued, goes on while more arrives (for at most 2 ms), and
commits; the next group gathers by itself while the disk is busy. So a lone
transaction never waits for company. No caller hears of success before COMMIT has
returned, and a COMMIT that fails is a transient fault for every member.
"""

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection

from determinism import Clock
from faults import TransientFault
from persistence.sqlite_session import (
    BUSY_TIMEOUT_MS,
    SqliteSession,
    is_busy,
    translated,
)
from persistence.turnstile import Turnstile

if TYPE_CHECKING:
    import sqlite3 as driver
else:
    from pysqlite3 import dbapi2 as driver

GATHER_S: Final = 0.002
GROUP_MAX: Final = 256
QUEUE_MAX: Final = 4_096
POLL_S: Final = 0.0005
SWITCH_S: Final = 0.0005
OVERLOAD_RETRY_S: Final = 0.25


@dataclass(frozen=True, eq=False)
class Member:
    """One transaction and the future that its caller awaits."""

    closure: Callable[[Connection], object]
    outcome: asyncio.Future[object]
    loop: asyncio.AbstractEventLoop


@dataclass(frozen=True)
class Performed:
    """A member that ran; its result counts once the group is committed."""

    member: Member
    result: object
    error: BaseException | None


class GroupWriter:
    """Owns the writing connection and its thread."""

    def __init__(self, path: str, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._turnstile = Turnstile(f"{path}-turn")
        self._session = _session(path)
        self._queue: deque[Member] = deque()
        self._arrived = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(
            target=self._work, name="sqlite-writer", daemon=True
        )
        # Loop and writer take turns at the interpreter. By default a turn may last
        # 5 ms, and a call with two commits waits for several.
        sys.setswitchinterval(SWITCH_S)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """False once closed, or when the thread died of a bug."""
        return self._thread.is_alive() and not self._closing.is_set()

    def submit(self, member: Member) -> None:
        """
        Queue a transaction.

        Raises:
            TransientFault: The queue is full, or the store is closing.
        """
        with self._arrived:
            if not self.alive:
                raise TransientFault("the store is closed: this process is going down")
            if len(self._queue) >= QUEUE_MAX:
                detail = f"{QUEUE_MAX} transactions are waiting for the store already"
                raise TransientFault(
                    detail, code="overloaded", retry_after_s=OVERLOAD_RETRY_S
                )
            self._queue.append(member)
            self._arrived.notify()

    def withdraw(self, member: Member) -> bool:
        """Remove a transaction that was not picked up yet; False when it was."""
        with self._arrived:
            try:
                self._queue.remove(member)
            except ValueError:
                return False
            return True

    def close(self) -> None:
        """Commit what is queued, then stop the thread and close the connection."""
        with self._arrived:
            self._closing.set()
            self._arrived.notify()
        self._thread.join()
        self._session.close()
        self._turnstile.close()

    def _work(self) -> None:
        try:
            while self._wait_for_work():
                self._commit_group()
        finally:  # only a bug gets here with work left: nobody may wait forever
            self._closing.set()
            self._fail_queued("the store's writer died: restart this process")

    def _wait_for_work(self) -> bool:
        with self._arrived:
            while not self._queue and not self._closing.is_set():
                self._arrived.wait()
            return bool(self._queue)

    def _commit_group(self) -> None:
        try:
            self._begin()
        except TransientFault as fault:
            self._fail_queued(fault.detail)
            return
        performed = self._perform_queued()
        try:
            if not self._session.in_transaction:
                _settle(_failed(performed, "a member's failure (disk full?) ended it"))
                return
            self._session.commit()
        except driver.Error as cause:
            self._reset()
            _settle(_failed(performed, f"COMMIT: {cause}"))
            return
        _settle(performed)

    def _begin(self) -> None:
        deadline_s = self._clock.monotonic() + BUSY_TIMEOUT_MS / 1_000

        def pause() -> None:
            if self._clock.monotonic() >= deadline_s:
                detail = (
                    f"another process has been writing to {self._path} for "
                    f"{BUSY_TIMEOUT_MS} ms: look for a stuck one"
                )
                raise TransientFault(detail, code="store-busy")
            # SQLite's own busy handler would pause for up to 100 ms at a time.
            threading.Event().wait(POLL_S)

        self._turnstile.enter(pause)
        try:
            while not self._try_begin():
                pause()
        finally:
            self._turnstile.leave()

    def _try_begin(self) -> bool:
        try:
            self._session.begin("IMMEDIATE")
        except driver.Error as cause:
            if is_busy(cause):
                return False
            self._reset()
            raise TransientFault(f"BEGIN on {self._path}: {cause}") from cause
        return True

    def _perform_queued(self) -> list[Performed]:
        performed: list[Performed] = []
        end_s = self._clock.monotonic() + GATHER_S
        while len(performed) < GROUP_MAX and (member := self._pick_up()) is not None:
            performed.append(self._perform(member))
            gathered = self._clock.monotonic() >= end_s
            if gathered or not self._session.in_transaction:
                break
        return performed

    def _pick_up(self) -> Member | None:
        with self._arrived:
            return self._queue.popleft() if self._queue else None

    def _perform(self, member: Member) -> Performed:
        # The boundary between the store and its users: whatever a closure raises is
        # its caller's, and must not take the thread or the group down.
        try:
            result = self._session.run_in_savepoint(member.closure)
        # tidy: the writer's thread is never cancelled; its callers' tasks are
        except BaseException as error:  # noqa: BLE001
            return Performed(member, None, translated(error))
        return Performed(member, result, None)

    def _reset(self) -> None:
        try:
            self._session.rollback()
        except driver.Error:
            # The connection is beyond repair; the file may still be fine.
            with suppress(driver.Error):
                self._session.close()
            self._session = _session(self._path)

    def _fail_queued(self, detail: str) -> None:
        with self._arrived:
            members = list(self._queue)
            self._queue.clear()
        _settle([Performed(each, None, TransientFault(detail)) for each in members])


def _session(path: str) -> SqliteSession:
    # Waiting for the write lock is this module's: SQLite's handler is too coarse.
    return SqliteSession(path, busy_timeout_ms=0)


def _failed(performed: Sequence[Performed], detail: str) -> list[Performed]:
    # A member that raised on its own keeps its error: it had no effect either way.
    return [
        each
        if each.error is not None
        else Performed(
            each.member, None, TransientFault(f"group commit failed: {detail}: retry")
        )
        for each in performed
    ]


def _settle(performed: Sequence[Performed]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[Performed]] = {}
    for each in performed:
        by_loop.setdefault(each.member.loop, []).append(each)
    for loop, batch in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, batch)


def _resolve(batch: Sequence[Performed]) -> None:
    for each in batch:
        if each.member.outcome.done():
            continue
        if each.error is not None:
            each.member.outcome.set_exception(each.error)
        else:
            each.member.outcome.set_result(each.result)
