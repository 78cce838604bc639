"""Dead letters, on every store."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import pytest
from sqlalchemy import Connection

from contracts.deadletters import DeadLetter, DeadLetterState
from persistence.database import Database
from persistence.dead_letter import DeadLetters
from persistence.inbox import Inbox
from persistence.tables import SharedTables

T = TypeVar("T")
SECOND = timedelta(seconds=1)


def letter(letter_id: str, tenant: str | None, now: datetime) -> DeadLetter:
    """Return a dead letter."""
    return DeadLetter(
        id=letter_id,
        tenant=tenant,
        service="orchestrator",
        subject="events.acme.invoice",
        message_id=f"message of {letter_id}",
        reason="malformed-event",
        detail="no type",
        body=b"\xff",
        headers={"ce-id": "1"},
        deliveries=3,
        created_at=now,
    )


async def test_dead_letters_page_newest_first_per_tenant(
    database: Database, tables: SharedTables, now: datetime
) -> None:
    """Pages follow each other without gap or repeat, and tenants stay apart."""
    letters = [
        letter(f"dl_{n}", "acme" if n % 2 else None, now + n // 3 * SECOND)
        for n in range(9)
    ]

    def keep(conn: Connection) -> list[bool]:
        box = DeadLetters(conn, tables)
        return [box.add(each) for each in [*letters, letters[0]]]

    assert await database.run(keep) == [True] * 9 + [False]

    async def page(tenant: str | None, after: str | None) -> Sequence[DeadLetter]:
        return await database.read(
            lambda conn: DeadLetters(conn, tables).list(tenant, None, 4, after)
        )

    seen = list(await page(None, None))
    while more := await page(None, seen[-1].id):
        seen += more
    assert seen == sorted(letters, key=lambda x: (x.created_at, x.id), reverse=True)
    assert [each.id for each in await page("acme", None)] == [
        *("dl_7", "dl_5", "dl_3", "dl_1"),
    ]


async def test_dead_letter_is_replayed_once(
    database: Database, tables: SharedTables, now: datetime
) -> None:
    """A letter comes back whole, to its tenant or an operator, and closes once."""
    kept = letter("dl_1", "acme", now)

    async def do(use: Callable[[DeadLetters], T]) -> T:
        return await database.run(lambda conn: use(DeadLetters(conn, tables)))

    await do(lambda box: box.add(kept))
    assert await do(lambda box: box.get("dl_1", "acme")) == kept
    assert await do(lambda box: box.get("dl_1", None)) == kept
    assert await do(lambda box: box.get("dl_1", "rival")) is None
    assert await do(lambda box: box.mark_replayed("dl_1", now))
    assert not await do(lambda box: box.mark_replayed("dl_1", now))
    assert not await do(lambda box: box.mark_discarded("dl_1"))
    replayed = kept.model_copy(
        update={"state": DeadLetterState.REPLAYED, "replayed_at": now}
    )
    assert await do(lambda box: box.list("acme", None, 9)) == [replayed]
    assert await do(lambda box: box.list(None, DeadLetterState.OPEN, 9)) == []


async def test_the_most_broken_message_can_be_kept(
    database: Database, tables: SharedTables, now: datetime
) -> None:
    """What no store takes is replaced; the body stays as it came."""
    broken = letter("dl_1", "acme", now).model_copy(
        update={"detail": "a\0b\udcff", "headers": {"x\0": "\udcff"}, "body": b"\0"}
    )

    def keep(conn: Connection) -> DeadLetter | None:
        DeadLetters(conn, tables).add(broken)
        return DeadLetters(conn, tables).get("dl_1", "acme")

    kept = await database.run(keep)
    assert kept is not None
    assert (kept.detail, kept.body) == ("a\ufffdb?", b"\0")
    assert kept.headers == {"x\ufffd": "?"}


async def test_known_are_admitted_or_dead(
    database: Database, tables: SharedTables, now: datetime
) -> None:
    """What a sender need not re-send: admitted ids and those of dead letters."""

    def transaction(conn: Connection) -> None:
        Inbox(conn, tables).admit("admitted", now)
        DeadLetters(conn, tables).add(letter("dl_1", "acme", now))

    await database.run(transaction)
    asked = ["admitted", "message of dl_1", "missing"]
    known = await database.read(lambda conn: Inbox(conn, tables).known(asked))
    assert known == {"admitted", "message of dl_1"}
    assert await database.read(lambda conn: Inbox(conn, tables).known([])) == set()
    with pytest.raises(ValueError, match="at most 1000"):
        await database.read(lambda conn: Inbox(conn, tables).known(["x"] * 1_001))
