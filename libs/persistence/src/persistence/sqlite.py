"""The SQLite store: one writing thread, a few reading ones, one file on one host."""

import asyncio
import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeVar, cast

from sqlalchemy import Connection

from determinism import Clock
from faults import TransientFault
from persistence.migrations import (
    head_of,
    migrate,
    require_head,
    revision_of,
    store_id_of,
)
from persistence.sqlite_session import SqliteSession, require_sqlite, translated
from persistence.sqlite_writer import OVERLOAD_RETRY_S, GroupWriter, Member
from persistence.turnstile import Turnstile
from persistence.waiting import settled

if TYPE_CHECKING:
    import sqlite3 as driver
else:
    from pysqlite3 import dbapi2 as driver

T = TypeVar("T")

READERS: Final = 3
READS_MAX: Final = 1_024
PREPARE_TIMEOUT_S: Final = 60.0
PREPARE_POLL_S: Final = 0.01


class SqliteDatabase:
    """One file, written by group commit, read from snapshots."""

    def __init__(self, path: Path, head: str, store_id: str, clock: Clock) -> None:
        self._path = path
        self._head = head
        self._inode = path.stat().st_ino
        self._writer = GroupWriter(str(path), clock)
        self._readers = _Readers(str(path))
        self._store_id = store_id

    @classmethod
    async def open(
        cls, path: Path, *, migrations: Path, clock: Clock, upgrade: bool
    ) -> "SqliteDatabase":
        """Migrate if asked to, and open; see ``database.open_database``."""
        require_sqlite()
        head = head_of(migrations)
        store_id = await asyncio.to_thread(
            _prepare, path, migrations, head, clock, upgrade=upgrade
        )
        return cls(path, head, store_id, clock)

    @property
    def dialect(self) -> Literal["sqlite"]:
        """Which SQL it speaks."""
        return "sqlite"

    @property
    def store_id(self) -> str:
        """The store's random id."""
        return self._store_id

    async def run(self, transaction: Callable[[Connection], T]) -> T:
        """Run the closure in the next group; return once it is on disk."""
        loop = asyncio.get_running_loop()
        member = Member(transaction, loop.create_future(), loop)
        self._writer.submit(member)
        try:
            result = await asyncio.shield(member.outcome)
        except asyncio.CancelledError:
            if not self._writer.withdraw(member):
                await settled(member.outcome)
            raise
        return cast("T", result)  # the member's closure returned it

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run the query on the last committed snapshot."""
        return await self._readers.read(query)

    async def check(self) -> None:
        """Raise TransientFault unless the store answers, is migrated and the same."""
        if not self._writer.alive:
            raise TransientFault("the store's writer is closed: restart this process")
        if not self._path.exists() or self._path.stat().st_ino != self._inode:
            detail = f"{self._path} was removed or replaced: restart this process"
            raise TransientFault(detail, code="store-replaced")
        try:
            await self.read(functools.partial(require_head, head=self._head))
        except driver.Error as cause:
            raise TransientFault(f"{self._path} does not answer: {cause}") from cause

    async def close(self) -> None:
        """Commit what is queued and close every connection."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        if self._writer.alive:
            self._writer.close()
            self._readers.close()


class _Readers:
    """A few threads, each with its own connection that cannot write."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._local = threading.local()
        self._sessions: list[SqliteSession] = []
        self._threads = ThreadPoolExecutor(READERS, "sqlite-reader")
        self._reading = 0

    async def read(self, query: Callable[[Connection], T]) -> T:
        if self._reading >= READS_MAX:
            detail = f"{READS_MAX} reads are waiting for the store already"
            raise TransientFault(
                detail, code="overloaded", retry_after_s=OVERLOAD_RETRY_S
            )
        self._reading += 1
        try:
            loop = asyncio.get_running_loop()
            work = functools.partial(self._query, query)
            return await loop.run_in_executor(self._threads, work)
        finally:
            self._reading -= 1

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
        for session in self._sessions:
            session.close()

    def _query(self, query: Callable[[Connection], T]) -> T:
        try:
            return self._session().snapshot(query)
        except Exception as error:
            if (fault := translated(error)) is not error:
                raise fault from error
            raise

    def _session(self) -> SqliteSession:
        session: SqliteSession | None = getattr(self._local, "session", None)
        if session is None:
            session = SqliteSession(self._path, read_only=True)
            self._local.session = session
            self._sessions.append(session)
        return session


def _prepare(
    path: Path, migrations: Path, head: str, clock: Clock, *, upgrade: bool
) -> str:
    """Create, migrate and read the identity, one starter at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not upgrade and not path.exists():
        detail = f"{path} does not exist: run `python -m persistence migrate` first"
        raise TransientFault(detail, code="migrations-behind")
    turnstile = Turnstile(f"{path}-turn")
    deadline_s = clock.monotonic() + PREPARE_TIMEOUT_S

    def pause() -> None:
        if clock.monotonic() >= deadline_s:
            detail = f"another process holds {path} for {PREPARE_TIMEOUT_S:g} s"
            raise TransientFault(detail, code="store-busy")
        threading.Event().wait(PREPARE_POLL_S)

    try:
        turnstile.enter(pause)
        return _prepare_alone(str(path), migrations, head, upgrade=upgrade)
    finally:
        turnstile.close()


def _prepare_alone(path: str, migrations: Path, head: str, *, upgrade: bool) -> str:
    session = SqliteSession(path)
    try:
        revision = session.snapshot(revision_of)
        if upgrade and (revision is None or revision < head):
            # IMMEDIATE, though alone behind the turnstile: another version of this
            # program, or a backup, need not know the turnstile.
            session.begin("IMMEDIATE")
            session.run(functools.partial(migrate, migrations=migrations))
            session.commit()
        session.snapshot(functools.partial(require_head, head=head))
        return session.snapshot(store_id_of)
    except Exception as error:
        session.rollback()
        if (fault := translated(error)) is not error:
            raise fault from error
        raise
    finally:
        session.close()
