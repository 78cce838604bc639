"""
The store of the simulation: in-memory SQLite, closures run inline on the loop.

A transaction never suspends, so a run is decided by its seed alone. ``around`` gives
the simulation its places to crash: before a transaction, and after its commit. A
crash kills the incarnation, not the store: ``reopen`` hands the committed state to
the next one, and whatever still holds the old object finds it dead.
"""

from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

from sqlalchemy import Connection, MetaData, Table

from faults import TransientFault
from persistence.sqlite_session import MEMORY, SqliteSession, require_sqlite, translated

T = TypeVar("T")

Moment = Literal["begin", "committed"]


async def _nothing(_moment: Moment) -> None:
    """Suspend nowhere."""


class InlineDatabase:
    """A Database without threads, files or waiting."""

    def __init__(
        self,
        session: SqliteSession,
        store_id: str,
        around: Callable[[Moment], Awaitable[None]],
    ) -> None:
        self._session = session
        self._store_id = store_id
        self._around = around
        self._open = True

    @classmethod
    def create(
        cls,
        metadata: MetaData,
        *,
        store_id: str = "inline",
        around: Callable[[Moment], Awaitable[None]] = _nothing,
    ) -> "InlineDatabase":
        """
        Make an empty store with these tables.

        Args:
            metadata: The service's tables, shared ones among them.
            store_id: What a migration would have drawn.
            around: Awaited at ``begin`` and at ``committed`` of each transaction.
        """
        require_sqlite()
        session = SqliteSession(MEMORY)
        metadata.create_all(session.connection)
        _name_store(session, metadata.tables.get("store_identity"), store_id)
        return cls(session, store_id, around)

    @property
    def dialect(self) -> Literal["sqlite"]:
        """Which SQL it speaks."""
        return "sqlite"

    @property
    def store_id(self) -> str:
        """The id that ``create`` was given."""
        return self._store_id

    def reopen(self) -> "InlineDatabase":
        """Kill this incarnation; return the next, with all that was committed."""
        self._open = False
        return InlineDatabase(self._session, self._store_id, self._around)

    async def run(self, transaction: Callable[[Connection], T]) -> T:
        """Run the closure in its own transaction, now."""
        await self._around("begin")
        self._require_open()
        result = self._transact(transaction)
        await self._around("committed")
        return result

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run the query, now; a write in it fails as in the other stores."""
        self._require_open()
        self._session.set_query_only(query_only=True)
        try:
            return self._session.snapshot(query)
        finally:
            self._session.set_query_only(query_only=False)

    async def check(self) -> None:
        """Raise TransientFault when this incarnation is dead."""
        self._require_open()

    async def close(self) -> None:
        """End this incarnation; ``reopen`` still works."""
        self._open = False

    def _transact(self, transaction: Callable[[Connection], T]) -> T:
        self._session.begin("IMMEDIATE")
        try:
            result = self._session.run(transaction)
            self._session.commit()
        except BaseException as error:
            self._session.rollback()
            if (fault := translated(error)) is not error:
                raise fault from error
            raise
        return result

    def _require_open(self) -> None:
        if not self._open:
            raise TransientFault("the store is closed: this incarnation has ended")


def _name_store(session: SqliteSession, identity: Table | None, store_id: str) -> None:
    if identity is not None:
        named = identity.insert().values(singleton=1, store_id=store_id)
        session.connection.execute(named)
    session.connection.commit()
