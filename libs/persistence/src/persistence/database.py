"""
The store of one service, the same face on SQLite and PostgreSQL.

    await database.run(transaction)   # a sync closure: Connection → result

The closure decides and writes, and must neither commit, nor wait, nor touch anything
outside its connection: it may be rolled back after it returned, and its author may
then be told to run it again. A cancellation before the closure was picked up removes
it; afterwards its outcome is awaited first, so nothing is ever half known.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from sqlalchemy import Connection, make_url

from determinism import Clock
from faults import PermanentFault
from persistence.inline import InlineDatabase

__all__ = ["Database", "InlineDatabase", "open_database"]

T = TypeVar("T")


class Database(Protocol):
    """A service's store, shared by its replicas."""

    @property
    def dialect(self) -> Literal["sqlite", "postgresql"]:
        """Which SQL it speaks."""
        ...

    @property
    def store_id(self) -> str:
        """Random, drawn at the first migration: replicas compare it."""
        ...

    async def run(self, transaction: Callable[[Connection], T]) -> T:
        """
        Run the closure in a transaction; return its result once committed.

        Raises:
            TransientFault: Overload, busy, a failed or unknown COMMIT: nothing of the
                closure counts, or (a lost connection) it may; ask again with the
                same ids.
            Exception: Whatever the closure raised; its statements are undone. A
                violated constraint stays sqlalchemy's IntegrityError.
        """
        ...

    async def read(self, query: Callable[[Connection], T]) -> T:
        """
        Run the query on one committed snapshot; it never waits for a writer.

        Raises:
            TransientFault: Overload or a store that does not answer.
        """
        ...

    async def check(self) -> None:
        """
        Return when the store is ready.

        Raises:
            TransientFault: It does not answer, is another store than at the start, or
                its migrations are not at this version's head.
        """
        ...

    async def close(self) -> None:
        """Finish what was picked up and close the connections."""
        ...


async def open_database(
    url: str, *, migrations: Path, clock: Clock, migrate: bool = True
) -> Database:
    """
    Open a store, bringing it to its migrations' head first.

    Args:
        url: ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or
            ``postgresql://user:password@host/name[?schema=…&sslmode=…&pool_size=…]``.
        migrations: The service's folder with ``versions/NNNN_name.py``.
        clock: For deadlines.
        migrate: False leaves the schema alone: some deploy step migrates.

    Raises:
        TransientFault: The store does not answer, or is behind and may not be
            migrated here.
        PermanentFault: A URL, a migrations folder or a SQLite that cannot be used.
    """
    parsed = make_url(url)
    match parsed.get_backend_name():
        case "sqlite":
            from persistence.sqlite import SqliteDatabase  # noqa: PLC0415 - lazily

            return await SqliteDatabase.open(
                _file(parsed.database), migrations=migrations, clock=clock,
                upgrade=migrate,
            )  # fmt: skip
        case "postgresql":
            from persistence.postgres import PostgresDatabase  # noqa: PLC0415 - lazily

            return await PostgresDatabase.open(
                parsed, migrations=migrations, upgrade=migrate
            )
        case other:
            detail = f"{other} is not supported: use sqlite:/// or postgresql://"
            raise PermanentFault(detail, code="store-unsupported")


def _file(name: str | None) -> Path:
    if not name or name.startswith(":"):
        detail = "a SQLite store needs a file, as sqlite:///relative/path.db"
        raise PermanentFault(detail, code="store-unsupported")
    return Path(name).absolute()
