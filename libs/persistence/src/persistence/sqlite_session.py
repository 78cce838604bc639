"""
One SQLite connection whose transactions are driven below SQLAlchemy.

A group commit puts many closures into one transaction, each in a savepoint, so no
closure may commit or roll back the connection that it was lent. SQLAlchemy's own
transaction bookkeeping is left running idle above it: the driver is in autocommit
mode, BEGIN, SAVEPOINT and COMMIT are sent by hand, and ``commit`` and ``rollback``
of the driver's connection refuse while a closure runs.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal, TypeVar, cast

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool, StaticPool

from faults import PermanentFault, TransientFault

if TYPE_CHECKING:
    import sqlite3 as driver  # the same interface, and it has types
else:
    from pysqlite3 import dbapi2 as driver

T = TypeVar("T")

SQLITE_MINIMUM: Final = (3, 51, 3)
BUSY_TIMEOUT_MS: Final = 5_000
MEMORY: Final = ":memory:"

# Not the statement's fault: the disk, another process or the moment is to blame.
_TRANSIENT_CODES: Final = frozenset(
    {
        driver.SQLITE_BUSY,
        driver.SQLITE_LOCKED,
        driver.SQLITE_FULL,
        driver.SQLITE_IOERR,
        driver.SQLITE_NOMEM,
        driver.SQLITE_INTERRUPT,
        driver.SQLITE_PROTOCOL,
        driver.SQLITE_CANTOPEN,
    }
)


def require_sqlite(
    version: tuple[int, int, int] = driver.sqlite_version_info,
) -> None:
    """
    Refuse a SQLite that can lose commits.

    Raises:
        PermanentFault: Older than 3.51.3, which fixed the WAL-reset bug.
    """
    if version < SQLITE_MINIMUM:
        found = ".".join(map(str, version))
        detail = (
            f"SQLite {found} can lose committed data (WAL-reset bug, 3.7.0 to 3.51.2): "
            "install pysqlite3 0.6.1 or newer, which carries SQLite 3.51.3 or newer"
        )
        raise PermanentFault(detail, code="sqlite-too-old")


class GuardedConnection(driver.Connection):
    """A driver connection that a closure cannot commit or roll back."""

    lent = False
    deaf = False
    """Neither refuse nor roll back: SQLAlchemy is only made to forget something."""

    def commit(self) -> None:
        """Commit, unless lent to a closure."""
        self._require_own()
        super().commit()

    def rollback(self) -> None:
        """Roll back, unless lent to a closure."""
        if self.deaf:
            return
        self._require_own()
        super().rollback()

    def _require_own(self) -> None:
        if self.lent:
            message = (
                "a transaction closure must neither commit nor roll back: return to "
                "commit, raise to roll back, use `with conn.begin_nested()` for a part"
            )
            raise RuntimeError(message)


class SqliteSession:
    """One connection: begin, run closures in savepoints, commit."""

    def __init__(
        self,
        path: str,
        *,
        read_only: bool = False,
        busy_timeout_ms: int = BUSY_TIMEOUT_MS,
    ) -> None:
        self._engine = _engine(path)
        self.connection = self._engine.connect()
        raw = self.connection.connection.driver_connection
        # The engine's creator makes nothing else.
        self._raw = cast("GuardedConnection", raw)
        _configure(self._raw, read_only=read_only)
        self._raw.execute(f"PRAGMA busy_timeout={busy_timeout_ms}")

    @property
    def in_transaction(self) -> bool:
        """False after SQLite rolled the transaction back on its own (disk full)."""
        return self._raw.in_transaction

    def begin(self, mode: Literal["DEFERRED", "IMMEDIATE"]) -> None:
        """Begin; raises the driver's error at once when the store is busy."""
        self._raw.execute(f"BEGIN {mode}")

    def commit(self) -> None:
        """Commit; the driver's error leaves a transaction to roll back."""
        self._raw.execute("COMMIT")

    def rollback(self) -> None:
        """Roll back whatever is open; nothing open is fine."""
        if self._raw.in_transaction:
            self._raw.execute("ROLLBACK")

    def run(self, closure: Callable[[Connection], T]) -> T:
        """Run a closure with the connection lent to it; its errors pass through."""
        if not self.connection.in_transaction():
            # Outside what it believes a transaction, SQLAlchemy rolls back on errors.
            self.connection.begin()
        self._raw.lent = True
        try:
            result = closure(self.connection)
            if self.connection.in_nested_transaction():
                message = "the closure left a savepoint open: use it in a `with` block"
                raise RuntimeError(message)
            return result
        finally:
            self._forget()
            self._raw.lent = False

    def snapshot(self, query: Callable[[Connection], T]) -> T:
        """Run a query on one snapshot, and roll back whatever it did."""
        self.begin("DEFERRED")
        try:
            return self.run(query)
        finally:
            self.rollback()

    def run_in_savepoint(self, closure: Callable[[Connection], T]) -> T:
        """Run a closure so that its failure undoes its own statements only."""
        self._raw.execute("SAVEPOINT member")
        try:
            result = self.run(closure)
        except BaseException:
            # Some failures (disk full) end the whole transaction by themselves.
            if self._raw.in_transaction:
                self._raw.execute("ROLLBACK TO member")
                self._raw.execute("RELEASE member")
            raise
        self._raw.execute("RELEASE member")
        return result

    def set_query_only(self, *, query_only: bool) -> None:
        """Refuse writes from now on, or allow them again."""
        self._raw.execute(f"PRAGMA query_only={int(query_only)}")

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()
        self._engine.dispose()

    def _forget(self) -> None:
        """Clear what a closure left in SQLAlchemy's bookkeeping, for the next one."""
        while (nested := self.connection.get_nested_transaction()) is not None:
            with suppress(DBAPIError):  # gone with the transaction: nothing to undo
                nested.close()
        root = self.connection.get_transaction()
        if root is not None and not root.is_active:  # it tried to commit or roll back
            self._raw.deaf = True
            self.connection.rollback()
            self._raw.deaf = False


def _engine(path: str) -> Engine:
    def connect() -> driver.Connection:
        return driver.connect(
            path,
            factory=GuardedConnection,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
            timeout=BUSY_TIMEOUT_MS / 1_000,
        )

    return create_engine(
        "sqlite://",
        module=driver,
        creator=connect,
        poolclass=StaticPool if path == MEMORY else NullPool,
        pool_reset_on_return=None,
        # An error's text reaches logs; what was being written must not.
        hide_parameters=True,
    )


def _configure(raw: GuardedConnection, *, read_only: bool) -> None:
    # A COMMIT is on disk when it returns (FULL), and readers never wait (WAL).
    raw.execute("PRAGMA journal_mode=WAL")
    raw.execute("PRAGMA synchronous=FULL")
    raw.execute("PRAGMA foreign_keys=ON")
    raw.execute("PRAGMA temp_store=MEMORY")
    raw.execute("PRAGMA journal_size_limit=67108864")
    if read_only:
        raw.execute("PRAGMA query_only=1")


def is_busy(error: driver.Error) -> bool:
    """Tell whether another connection holds the write lock."""
    return _primary_code(error) == driver.SQLITE_BUSY


def translated(error: BaseException) -> BaseException:
    """Return the fault that a driver's error means, or the error itself."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, driver.Error) and _primary_code(cause) in _TRANSIENT_CODES:
        fault = TransientFault(f"SQLite: {cause}: retry; check the disk if it persists")
        fault.__cause__ = error
        return fault
    return error


def _primary_code(error: driver.Error) -> int:
    extended: int = getattr(error, "sqlite_errorcode", 0)
    return extended & 0xFF
