"""Inbox and outbox, on every store."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

import pytest
from sqlalchemy import Connection

from faults import PermanentFault
from persistence.database import Database
from persistence.inbox import Inbox
from persistence.outbox import Outbox, OutboxMessage, OutboxRow
from persistence.tables import SharedTables

T = TypeVar("T")
SECOND = timedelta(seconds=1)
HOLD = timedelta(seconds=10)


def message(message_id: str, body: bytes = b"\x00\xff{}") -> OutboxMessage:
    """Return an owed message."""
    return OutboxMessage(
        message_id=message_id,
        address="work.orchestrator.submit.acme",
        receiver="orchestrator",
        body=body,
        headers={"traceparent": "00-ab"},
        task_key="task_1",
    )


class Box:
    """One store's outbox, each call a transaction of its own."""

    def __init__(self, database: Database, tables: SharedTables) -> None:
        self._database = database
        self._tables = tables

    async def do(self, use: Callable[[Outbox], T]) -> T:
        """Run one use in a transaction."""
        return await self._database.run(lambda conn: use(Outbox(conn, self._tables)))

    async def unsent(
        self, owner: str, now: datetime, age: timedelta = timedelta(0), limit: int = 10
    ) -> list[str]:
        """Claim unsent rows; return their ids."""
        rows = await self.do(lambda box: box.claim_unsent(owner, now, age, HOLD, limit))
        return [row.message_id for row in rows]

    async def unconfirmed(
        self, owner: str, now: datetime, age: timedelta = timedelta(0)
    ) -> list[OutboxRow]:
        """Claim sent rows."""
        return await self.do(
            lambda box: box.claim_unconfirmed(owner, now, age, HOLD, 10)
        )


@pytest.fixture
def box(database: Database, tables: SharedTables) -> Box:
    """Return an empty outbox."""
    return Box(database, tables)


async def test_message_is_admitted_once(
    database: Database, tables: SharedTables, now: datetime
) -> None:
    """The second of two equal ids is a duplicate, unless the first was undone."""

    def undone(conn: Connection) -> None:
        assert Inbox(conn, tables).admit("a", now)
        raise KeyError("undo")

    with pytest.raises(KeyError):
        await database.run(undone)
    assert await database.run(lambda conn: Inbox(conn, tables).admit("a", now))
    assert not await database.run(lambda conn: Inbox(conn, tables).admit("a", now))


async def test_prune_forgets_the_oldest_first(
    database: Database, tables: SharedTables, now: datetime
) -> None:
    """Pruning is bounded and takes only ids from before the given time."""

    def transaction(conn: Connection) -> tuple[int, int, set[str]]:
        inbox = Inbox(conn, tables)
        for age in range(4):
            inbox.admit(str(age), now - age * SECOND)
        first = inbox.prune(now, limit=2)
        second = inbox.prune(now, limit=10)
        return first, second, inbox.known(["0", "1", "2", "3"])

    assert await database.run(transaction) == (2, 1, {"0"})


async def test_row_lives_until_confirmed(box: Box, now: datetime) -> None:
    """A PubAck counts a send and keeps the row; only the receiver's word ends it."""
    await box.do(lambda outbox: outbox.add([message("m")], now))
    taken = await box.do(lambda outbox: outbox.take(["m"], "me", now, HOLD))
    assert [(row.message_id, row.sends) for row in taken] == [("m", 0)]
    assert taken[0].body == b"\x00\xff{}"
    assert taken[0].headers == {"traceparent": "00-ab"}
    assert taken[0].created_at == now
    await box.do(lambda outbox: outbox.mark_sent(["m"], now))
    later = now + 60 * SECOND
    assert await box.do(lambda outbox: outbox.backlog(later)) == (1, 60.0)
    assert await box.unsent("other", later) == []
    assert [row.sends for row in await box.unconfirmed("me", later)] == [1]
    await box.do(lambda outbox: outbox.confirm(["m"]))
    assert await box.do(lambda outbox: outbox.backlog(later)) == (0, 0.0)


async def test_resend_keeps_id_and_counts_on(box: Box, now: datetime) -> None:
    """A missing message goes again with its id, and with the next send number."""
    await box.do(lambda outbox: outbox.add([message("m")], now))
    await box.do(lambda outbox: outbox.mark_sent(["m"], now))
    await box.do(lambda outbox: outbox.resend(["m"], now))
    assert await box.unconfirmed("me", now) == []
    again = await box.do(lambda outbox: outbox.take(["m"], "me", now, HOLD))
    assert [(row.message_id, row.sends) for row in again] == [("m", 1)]
    await box.do(lambda outbox: outbox.mark_sent(["m"], now))
    assert [row.sends for row in await box.unconfirmed("me", now)] == [2]


async def test_claims_go_by_state_and_age(box: Box, now: datetime) -> None:
    """Young rows are their committer's; old ones anybody's, oldest first, bounded."""
    for age in (5, 1, 3, 4):
        born = now - age * SECOND
        await box.do(lambda outbox, a=age, b=born: outbox.add([message(str(a))], b))
    assert await box.unsent("me", now, age=2 * SECOND, limit=2) == ["5", "4"]
    assert await box.unsent("me", now, age=2 * SECOND) == ["3"]
    assert await box.unsent("me", now, age=2 * SECOND) == []


async def test_live_claim_is_respected_until_it_ends(box: Box, now: datetime) -> None:
    """What one process claimed, no other gets before the hold is over."""
    await box.do(lambda outbox: outbox.add([message("m")], now))
    assert await box.unsent("first", now) == ["m"]
    assert await box.unsent("second", now + HOLD - SECOND) == []
    taken = await box.do(lambda outbox: outbox.take(["m"], "second", now, HOLD))
    assert taken == []
    assert await box.do(lambda outbox: outbox.take(["m"], "first", now, HOLD))
    assert await box.unsent("second", now + HOLD) == ["m"]


async def test_same_message_again_changes_nothing(box: Box, now: datetime) -> None:
    """Owing a message twice owes it once; another content under its id is refused."""
    await box.do(lambda outbox: outbox.add([message("m"), message("n")], now))
    await box.do(lambda outbox: outbox.mark_sent(["m"], now))
    await box.do(lambda outbox: outbox.add([message("m")], now + SECOND))
    assert [row.sends for row in await box.unconfirmed("me", now)] == [1]
    with pytest.raises(PermanentFault, match="already owed"):
        await box.do(lambda outbox: outbox.add([message("m", b"other")], now))


async def test_nothing_to_change_is_fine(box: Box, now: datetime) -> None:
    """Empty lists and ids that are gone pass quietly."""
    await box.do(lambda outbox: outbox.mark_sent([], now))
    await box.do(lambda outbox: outbox.confirm(["gone"]))
    await box.do(lambda outbox: outbox.resend(["gone"], now))
    assert await box.do(lambda outbox: outbox.take([], "me", now, HOLD)) == []
