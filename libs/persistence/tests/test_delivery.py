"""The store as messaging sees it, on every store."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import Connection, Table
from sqlalchemy.exc import IntegrityError

from contracts import subjects
from contracts.deadletters import DeadLetter, DeadLetterState, ListDeadLetters
from contracts.delivery import Nothing
from contracts.owed import Owed
from persistence.database import Database
from persistence.delivery import BATCH, DeliveryStore, outbox_rows
from persistence.inbox import Inbox
from persistence.outbox import Outbox
from persistence.tables import SharedTables


class MovedClock:
    """A clock that a test moves."""

    def __init__(self, now: datetime) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()

    async def sleep(self, duration_s: float) -> None:
        self.time += timedelta(seconds=duration_s)


class Replicas:
    """Two processes of one service on one store."""

    def __init__(self, database: Database, tables: SharedTables, now: datetime) -> None:
        self.clock = MovedClock(now)
        self.database = database
        self.tables = tables
        self.first, self.second = (
            DeliveryStore(database, tables, clock=self.clock, owner=owner)
            for owner in ("first", "second")
        )

    async def owe(self, *ids: str) -> None:
        """Commit messages that are owed to the orchestrator."""
        address = subjects.SUBMIT.to("acme")
        owed = [Owed(address, Nothing(), each, "task_1") for each in ids]
        rows = outbox_rows(owed, {"traceparent": "00-ab"})
        now = self.clock.now()
        await self.database.run(lambda conn: Outbox(conn, self.tables).add(rows, now))


@pytest.fixture
def replicas(database: Database, tables: SharedTables, now: datetime) -> Replicas:
    """Return two processes on an empty store of each kind in turn."""
    return Replicas(database, tables, now)


async def test_a_row_says_where_it_goes(replicas: Replicas) -> None:
    """Address without a track, receiver, trace and task key come back as owed."""
    await replicas.owe("m1")
    (row,) = await replicas.first.take(["m1"])
    assert row.address == "work.orchestrator.submit.acme"
    assert row.receiver == "orchestrator"
    assert (row.headers, row.task_key) == ({"traceparent": "00-ab"}, "task_1")
    assert (row.body, row.sends) == (b"{}", 0)


async def test_a_killed_process_leaves_its_rows_to_the_others(
    replicas: Replicas,
) -> None:
    """Killed after the commit, or after its claim: another sends in seconds."""
    await replicas.owe("committed", "claimed")
    assert len(await replicas.first.take(["claimed"])) == 1
    assert await replicas.second.take(["claimed"]) == []
    await replicas.clock.sleep(3)
    found = await replicas.second.claim_unsent()
    assert [row.message_id for row in found] == ["committed"]
    await replicas.clock.sleep(8)
    found = await replicas.second.claim_unsent()
    assert [row.message_id for row in found] == ["claimed"]


async def test_a_sent_row_lives_until_its_receiver_has_it(replicas: Replicas) -> None:
    """A PubAck is no delivery: lost ones are sent again, with another number."""
    await replicas.owe("m1")
    await replicas.first.take(["m1"])
    await replicas.first.mark_sent(["m1"])
    assert await replicas.first.claim_unconfirmed() == []
    await replicas.clock.sleep(2)
    assert await replicas.first.backlog() == (1, 2.0)
    assert len(await replicas.first.claim_unconfirmed()) == 1
    await replicas.first.resend(["m1"])
    (again,) = await replicas.second.take(["m1"])
    assert again.sends == 1
    await replicas.second.mark_sent(["m1"])
    await replicas.second.confirm(["m1"])
    assert await replicas.first.backlog() == (0, 0.0)


async def test_a_claim_is_a_page(replicas: Replicas) -> None:
    """However much is owed, one claim holds no more than a batch."""
    await replicas.owe(*(f"m{number}" for number in range(BATCH + 1)))
    await replicas.clock.sleep(3)
    assert len(await replicas.first.claim_unsent()) == BATCH
    assert len(await replicas.second.claim_unsent()) == 1


async def test_a_doorbells_own_table_counts_as_known(
    replicas: Replicas, account: Table
) -> None:
    """What was admitted, what was buried, and what the service says it has."""

    def has(conn: Connection, ids: object) -> set[str]:
        return {"bell"}

    clock, tables = replicas.clock, replicas.tables
    store = DeliveryStore(replicas.database, tables, clock=clock, owner="x", known=has)
    await store.bury(letter("dead_1", "acme", "buried", clock.now()))
    await replicas.database.run(
        lambda conn: Inbox(conn, tables).admit("admitted", clock.now())
    )
    asked = ["admitted", "buried", "bell", "lost"]
    assert await store.known(asked) == {"admitted", "buried", "bell"}
    assert await replicas.first.known(asked) == {"admitted", "buried"}


async def test_dead_letters_are_paged_and_replayed(replicas: Replicas) -> None:
    """Each letter on one page; a replayed one is open no more; tenants apart."""
    store, now = replicas.first, replicas.clock.now()
    for number in range(5):
        await store.bury(letter(f"dead_{number}", "acme", f"m{number}", now))
    await store.bury(letter("dead_0", "acme", "again", now))
    await store.bury(letter("dead_x", "globex", "mx", now))
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        request = ListDeadLetters(tenant="acme", limit=2, cursor=cursor)
        page = await store.dead_letters(request)
        seen += [each.id for each in page.dead_letters]
        cursor = page.next_cursor
    assert cursor is None
    assert sorted(seen) == [f"dead_{number}" for number in range(5)]
    assert await store.dead_letter("dead_0", "globex") is None
    await store.mark_replayed("dead_0")
    found = await store.dead_letter("dead_0", None)
    assert found is not None
    assert (found.state, found.replayed_at) == (DeadLetterState.REPLAYED, now)
    assert found.message_id == "m0"


async def test_an_error_never_quotes_what_was_written(
    database: Database, account: Table
) -> None:
    """Error texts reach logs; prompts and secrets are among what is written."""
    row = {"id": "a", "balance": 1, "version": 1, "note": "a secret prompt"}

    def twice(conn: Connection) -> None:
        for _ in range(2):
            conn.execute(account.insert(), row)

    with pytest.raises(IntegrityError) as raised:
        await database.run(twice)
    assert "a secret prompt" not in str(raised.value)


def letter(letter_id: str, tenant: str, message_id: str, now: datetime) -> DeadLetter:
    """Return a dead letter."""
    return DeadLetter(
        id=letter_id,
        tenant=tenant,
        service="orchestrator",
        subject="work.orchestrator.stable.submit.acme",
        message_id=message_id,
        reason="invalid",
        detail="no type",
        body=b"\xff",
        created_at=now,
    )
