"""
The PostgreSQL store: each closure is its own transaction over a bounded pool.

READ COMMITTED: what must not be lost between a read and a write is protected by
optimistic versions, unique keys and row locks with SKIP LOCKED, which hold at any
level and cost no retries; a closure that needs more asks for its own locks. Reads
are REPEATABLE READ, READ ONLY: one snapshot for all of a query's statements.
"""

import asyncio
import functools
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, TypeVar
from zlib import crc32

from sqlalchemy import URL, Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from faults import TransientFault
from persistence.migrations import (
    head_of,
    migrate,
    require_head,
    revision_of,
    store_id_of,
)
from persistence.waiting import settled

T = TypeVar("T")

POOL_SIZE: Final = 10
POOL_TIMEOUT_S: Final = 5.0
CONNECT_TIMEOUT_S: Final = 5.0
STATEMENT_TIMEOUT_S: Final = 15
LOCK_TIMEOUT_S: Final = 5
IDLE_TIMEOUT_S: Final = 30
# Later than the server's own timeout, so that it speaks first when it can.
COMMAND_TIMEOUT_S: Final = STATEMENT_TIMEOUT_S + 2
CHECK_TIMEOUT_S: Final = 3.0
MIGRATE_TIMEOUT_S: Final = 600.0
WAITING_MAX: Final = 1_024
OVERLOAD_RETRY_S: Final = 0.25
LOCK_SPACE: Final = 0x6D69_6772  # "migr": our advisory locks, apart from others'

# SQLSTATEs and classes that say "not now" rather than "not like this".
_TRANSIENT_STATES: Final = frozenset(
    {
        "25P03",  # idle in transaction: this process stalled
        "40001",  # serialization failure
        "40P01",  # deadlock
        "55P03",  # lock not available
        "57014",  # statement timeout
        "57P01",  # the server is going down
        "57P02",
        "57P03",  # the server is coming up
        "57P05",
    }
)
_TRANSIENT_CLASSES: Final = ("08", "53", "58")  # connection, resources, system


class PostgresDatabase:
    """A database or schema on a PostgreSQL server, shared by replicas."""

    def __init__(self, engine: AsyncEngine, head: str, store_id: str) -> None:
        self._engine = engine
        self._snapshots = engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self._head = head
        self._store_id = store_id
        self._waiting = 0

    @classmethod
    async def open(
        cls, url: URL, *, migrations: Path, upgrade: bool
    ) -> "PostgresDatabase":
        """Migrate if asked to, and open; see ``database.open_database``."""
        head = head_of(migrations)
        with _as_faults():
            if upgrade:
                await _bring_to_head(url, migrations, head)
            engine = _pooled_engine(url)
            try:
                async with engine.connect() as connection:
                    await connection.run_sync(require_head, head)
                    store_id = await connection.run_sync(store_id_of)
            except BaseException:
                await engine.dispose()
                raise
        return cls(engine, head, store_id)

    @property
    def dialect(self) -> Literal["postgresql"]:
        """Which SQL it speaks."""
        return "postgresql"

    @property
    def store_id(self) -> str:
        """The store's random id."""
        return self._store_id

    async def run(self, transaction: Callable[[Connection], T]) -> T:
        """Run the closure in a transaction of its own; return once committed."""
        with self._admitted():
            picked_up = asyncio.Event()
            # tidy: this call owns it, and awaits its outcome whatever happens
            outcome = asyncio.create_task(self._transact(transaction, picked_up))
            try:
                return await asyncio.shield(outcome)
            except asyncio.CancelledError:
                if not picked_up.is_set():
                    outcome.cancel()
                await settled(outcome)
                raise

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run the query on a snapshot that cannot write."""
        with self._admitted(), _as_faults():
            async with self._snapshots.connect() as connection:
                return await connection.run_sync(query)

    async def check(self) -> None:
        """Raise TransientFault unless the server answers and is migrated."""
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                store_id = await self.read(self._look)
        except TimeoutError as cause:
            detail = f"PostgreSQL does not answer within {CHECK_TIMEOUT_S:g} s"
            raise TransientFault(detail) from cause
        except DBAPIError as cause:
            raise TransientFault(f"PostgreSQL: {cause.orig}") from cause
        if store_id != self._store_id:
            detail = "another store answers at this URL: restart this process"
            raise TransientFault(detail, code="store-replaced")

    async def close(self) -> None:
        """Close the pool."""
        await self._engine.dispose()

    async def _transact(
        self, transaction: Callable[[Connection], T], picked_up: asyncio.Event
    ) -> T:
        with _as_faults():
            async with self._engine.connect() as connection:
                picked_up.set()
                async with connection.begin():
                    return await connection.run_sync(transaction)

    def _look(self, connection: Connection) -> str:
        require_head(connection, self._head)
        return store_id_of(connection)

    @contextmanager
    def _admitted(self) -> Generator[None]:
        if self._waiting >= WAITING_MAX:
            detail = f"{WAITING_MAX} transactions are waiting for the store already"
            raise TransientFault(
                detail, code="overloaded", retry_after_s=OVERLOAD_RETRY_S
            )
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1


@contextmanager
def _as_faults() -> Generator[None]:
    """Turn what the server or the network did into transient faults."""
    try:
        yield
    except DBAPIError as error:
        if _is_transient(error):
            raise TransientFault(f"PostgreSQL: {error.orig}: retry") from error
        raise
    except PoolTimeout as error:
        detail = f"no PostgreSQL connection became free within {POOL_TIMEOUT_S:g} s"
        raise TransientFault(detail, code="overloaded") from error
    except (OSError, TimeoutError) as error:
        raise TransientFault(f"PostgreSQL does not answer: {error!r}") from error


def _is_transient(error: DBAPIError) -> bool:
    state: str = getattr(error.orig, "sqlstate", None) or ""
    return (
        error.connection_invalidated
        or state in _TRANSIENT_STATES
        or state[:2] in _TRANSIENT_CLASSES
    )


async def _bring_to_head(url: URL, migrations: Path, head: str) -> None:
    engine = _migrating_engine(url)
    try:
        async with engine.connect() as connection:
            revision = await connection.run_sync(revision_of)
        if revision is None or revision < head:
            async with engine.begin() as connection:
                work = functools.partial(_migrate_alone, schema=_schema(url))
                await connection.run_sync(work, migrations)
    finally:
        await engine.dispose()


def _migrate_alone(
    connection: Connection, migrations: Path, *, schema: str | None
) -> None:
    # Until commit, one starter per schema: a second one waits here, then looks again.
    lock = {"space": LOCK_SPACE, "schema": crc32((schema or "").encode()) - 2**31}
    connection.execute(text("SELECT pg_advisory_xact_lock(:space, :schema)"), lock)
    if schema is not None:
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {_quoted(schema)}"))
    migrate(connection, migrations)


def _pooled_engine(url: URL) -> AsyncEngine:
    settings = {
        "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
        "lock_timeout": f"{LOCK_TIMEOUT_S}s",
        "idle_in_transaction_session_timeout": f"{IDLE_TIMEOUT_S}s",
        # Short statements by the thousand: compiling them costs more than it saves.
        "jit": "off",
    }
    return create_async_engine(
        _driver_url(url),
        pool_size=int(_option(url, "pool_size") or POOL_SIZE),
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        isolation_level="READ COMMITTED",
        # An error's text reaches logs; what was being written must not.
        hide_parameters=True,
        connect_args=_connect_arguments(url, settings, COMMAND_TIMEOUT_S),
    )


def _migrating_engine(url: URL) -> AsyncEngine:
    return create_async_engine(
        _driver_url(url),
        poolclass=NullPool,
        connect_args=_connect_arguments(url, {}, MIGRATE_TIMEOUT_S),
    )


def _connect_arguments(
    url: URL, settings: dict[str, str], command_timeout_s: float
) -> dict[str, object]:
    schema = _schema(url)
    if schema is not None:
        settings = {**settings, "search_path": _quoted(schema)}
    arguments: dict[str, object] = {
        "timeout": CONNECT_TIMEOUT_S,
        "command_timeout": command_timeout_s,
        "server_settings": {"application_name": "digital-employee", **settings},
    }
    if (ssl := _option(url, "sslmode")) is not None:
        arguments["ssl"] = ssl
    return arguments


def _driver_url(url: URL) -> URL:
    bare = url.difference_update_query(["schema", "sslmode", "pool_size"])
    return bare.set(drivername="postgresql+asyncpg")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _schema(url: URL) -> str | None:
    return _option(url, "schema")


def _option(url: URL, name: str) -> str | None:
    value = url.query.get(name)
    return value if isinstance(value, str) else None
