"""Leases and timers: examples on every store, and the lease against a model."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import Connection, MetaData

from persistence.database import Database
from persistence.lease import Lease, Leases
from persistence.sqlite_session import MEMORY, SqliteSession
from persistence.tables import SharedTables, declare_shared
from persistence.timer import Timer, Timers

T = TypeVar("T")
SECOND = timedelta(seconds=1)
LONG = timedelta(seconds=30)


@pytest.fixture
def leases(
    database: Database, tables: SharedTables
) -> Callable[[Callable[[Leases], Any]], Any]:
    """Return a function that runs one use of the leases in a transaction."""
    return lambda use: database.run(lambda conn: use(Leases(conn, tables)))


Use = Callable[[Callable[[Leases], Any]], Any]


async def test_one_holds_at_a_time(leases: Use, now: datetime) -> None:
    """While a lease is alive nobody else gets it; afterwards with a higher fence."""
    first = await leases(lambda x: x.claim("s", "step", "a", now, LONG))
    assert first == Lease("s", "step", "a", 1, now + LONG, None)
    assert await leases(lambda x: x.claim("s", "step", "b", now, LONG)) is None
    assert await leases(lambda x: x.claim("s", "step", "a", now, LONG)) is None
    assert await leases(lambda x: x.expired("step", now, 9)) == []
    late = now + LONG
    assert await leases(lambda x: x.expired("step", late, 9)) == [first]
    assert await leases(lambda x: x.expired("other", late, 9)) == []
    second = await leases(lambda x: x.claim("s", "step", "b", late, LONG))
    assert (second.owner, second.fence) == ("b", 2)


async def test_stale_fence_is_refused(leases: Use, now: datetime) -> None:
    """A holder that slept through its lease can neither renew, finish nor release."""
    stale = await leases(lambda x: x.claim("s", "step", "a", now, SECOND))
    late = now + LONG
    # The same owner claims again: even then only the new fence counts.
    held = await leases(lambda x: x.claim("s", "step", "a", late, LONG))
    assert await leases(lambda x: x.renew(stale, late, LONG)) is None
    assert not await leases(lambda x: x.finish(stale))
    assert not await leases(lambda x: x.release(stale, late))
    assert await leases(lambda x: x.get("s")) == held
    assert await leases(lambda x: x.finish(held))
    assert not await leases(lambda x: x.finish(held))


async def test_finished_is_never_claimable(leases: Use, now: datetime) -> None:
    """A doorbell that comes after the end starts nothing, until the row is pruned."""
    held = await leases(lambda x: x.claim("s", "step", "a", now, LONG))
    assert await leases(lambda x: x.finish(held))
    late = now + 10 * LONG
    assert await leases(lambda x: x.claim("s", "step", "b", late, LONG)) is None
    assert await leases(lambda x: x.flag("s", "step", "cancel", late)) is None
    assert await leases(lambda x: x.expired("step", late, 9)) == []
    assert (await leases(lambda x: x.get("s"))).finished
    assert await leases(lambda x: x.prune(now, 9)) == 0
    assert await leases(lambda x: x.prune(late, 9)) == 1
    assert await leases(lambda x: x.get("s")) is None


async def test_flag_reaches_the_holder(leases: Use, now: datetime) -> None:
    """A cancel is seen at the next renewal, and by whoever claims afterwards."""
    held = await leases(lambda x: x.claim("s", "step", "a", now, LONG))
    flagged = await leases(lambda x: x.flag("s", "step", "cancel", now))
    assert (flagged.owner, flagged.flag) == ("a", "cancel")
    renewed = await leases(lambda x: x.renew(held, now + SECOND, LONG))
    assert renewed == Lease("s", "step", "a", 1, now + SECOND + LONG, "cancel")
    assert await leases(lambda x: x.release(renewed, now))
    assert await leases(lambda x: x.renew(renewed, now, LONG)) is None
    taken = await leases(lambda x: x.claim("s", "step", "b", now, LONG))
    assert (taken.fence, taken.flag) == (2, "cancel")


async def test_flag_may_come_before_the_bell(leases: Use, now: datetime) -> None:
    """A cancel that overtakes the work is waiting for it."""
    made = await leases(lambda x: x.flag("s", "step", "cancel", now))
    assert made == Lease("s", "step", "", 0, now, "cancel")
    held = await leases(lambda x: x.claim("s", "step", "a", now, LONG))
    assert (held.fence, held.flag) == (1, "cancel")


NAMES = st.sampled_from(["s1", "s2"])
OWNERS = st.sampled_from(["a", "b", "c"])
DURATIONS = st.integers(1, 5).map(lambda s: timedelta(seconds=s))
METADATA = MetaData()
TABLES = declare_shared(METADATA)


class LeaseModel(RuleBasedStateMachine):
    """
    Any order of calls, by holders that may be long gone, against a plain model.

    The model keeps one Lease per name. Every lease ever handed out is kept too, and
    used again at random: that is what a process does that was paused.
    """

    def __init__(self) -> None:
        super().__init__()
        self.session = SqliteSession(MEMORY)
        METADATA.create_all(self.session.connection)
        self.session.connection.commit()
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.model: dict[str, Lease] = {}
        self.handed_out: list[Lease] = []

    def do(self, use: Callable[[Leases], T]) -> T:
        """Run one use and commit it."""
        self.session.begin("IMMEDIATE")
        result = self.session.run(lambda conn: use(Leases(conn, TABLES)))
        self.session.commit()
        return result

    def is_current(self, lease: Lease) -> bool:
        """Tell whether this hand-out still holds its name."""
        row = self.model[lease.name]
        return (row.owner, row.fence, row.finished) == (lease.owner, lease.fence, False)

    @rule(passed=st.integers(0, 4))
    def pass_time(self, passed: int) -> None:
        self.now += timedelta(seconds=passed)

    @rule(name=NAMES, owner=OWNERS, duration=DURATIONS)
    def claim(self, name: str, owner: str, duration: timedelta) -> None:
        got = self.do(lambda x: x.claim(name, "k", owner, self.now, duration))
        row = self.model.get(name)
        alive = row is not None and row.owner != "" and row.until > self.now
        if row is not None and (row.finished or alive):
            assert got is None
            return
        fence, flag = (1, None) if row is None else (row.fence + 1, row.flag)
        expected = Lease(name, "k", owner, fence, self.now + duration, flag)
        assert got == expected
        self.model[name] = expected
        self.handed_out.append(expected)

    @rule(data=st.data(), duration=DURATIONS)
    def renew(self, data: st.DataObject, duration: timedelta) -> None:
        if not self.handed_out:
            return
        lease = data.draw(st.sampled_from(self.handed_out))
        got = self.do(lambda x: x.renew(lease, self.now, duration))
        if not self.is_current(lease):
            assert got is None
            return
        row = self.model[lease.name]
        expected = Lease(
            row.name, "k", row.owner, row.fence, self.now + duration, row.flag
        )
        assert got == expected
        self.model[lease.name] = expected

    @rule(data=st.data(), finish=st.booleans())
    def let_go(self, data: st.DataObject, *, finish: bool) -> None:
        if not self.handed_out:
            return
        lease = data.draw(st.sampled_from(self.handed_out))
        current = self.is_current(lease)
        row = self.model[lease.name]
        if finish:
            assert self.do(lambda x: x.finish(lease)) == current
            after = Lease(
                row.name, "k", row.owner, row.fence, row.until, row.flag, finished=True
            )
        else:
            assert self.do(lambda x: x.release(lease, self.now)) == current
            after = Lease(row.name, "k", "", row.fence, self.now, row.flag)
        if current:
            self.model[lease.name] = after

    @rule(name=NAMES)
    def flag(self, name: str) -> None:
        got = self.do(lambda x: x.flag(name, "k", "cancel", self.now))
        row = self.model.get(name)
        if row is not None and row.finished:
            assert got is None
            return
        if row is None:
            row = Lease(name, "k", "", 0, self.now, None)
        expected = Lease(name, "k", row.owner, row.fence, row.until, "cancel")
        assert got == expected
        self.model[name] = expected

    @invariant()
    def agrees(self) -> None:
        """The store is the model, and lists exactly what nobody holds alive."""
        for name in ("s1", "s2"):
            assert self.do(lambda x, n=name: x.get(n)) == self.model.get(name)
        dead = {
            row.name
            for row in self.model.values()
            if not row.finished and row.until <= self.now
        }
        expired = self.do(lambda x: x.expired("k", self.now, 9))
        assert {row.name for row in expired} == dead

    def teardown(self) -> None:
        self.session.close()


TestLeaseModel = LeaseModel.TestCase
TestLeaseModel.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None
)


async def test_timer_is_taken_once_with_its_transaction(
    database: Database, tables: SharedTables, now: datetime
) -> None:
    """A due timer is deleted by the commit that acts on it; an undone one is due on."""

    def set_timers(conn: Connection) -> None:
        timers = Timers(conn, tables)
        timers.set("later", "retry", now + SECOND, b"")
        timers.set("second", "retry", now, b"2")
        timers.set("first", "wait", now - SECOND, b"\x00")

    def undone(conn: Connection) -> None:
        assert len(Timers(conn, tables).claim_due(now, 9)) == 2
        raise KeyError("undo")

    await database.run(set_timers)
    with pytest.raises(KeyError):
        await database.run(undone)

    async def due(limit: int, kind: str | None = None) -> list[Timer]:
        return await database.run(
            lambda conn: Timers(conn, tables).claim_due(now, limit, kind)
        )

    assert await due(9, "none such") == []
    assert await due(1) == [Timer("first", "wait", now - SECOND, b"\x00")]
    assert await due(9, "retry") == [Timer("second", "retry", now, b"2")]
    assert await due(9) == []


async def test_timer_can_be_moved_and_cancelled(
    database: Database, tables: SharedTables, now: datetime
) -> None:
    """Setting an id again moves it; a cancelled timer never comes."""

    def transaction(conn: Connection) -> None:
        timers = Timers(conn, tables)
        assert timers.next_due() is None
        timers.set("a", "k", now, b"1")
        timers.set("a", "k", now + SECOND, b"2")
        timers.set("b", "k", now, b"")
        assert timers.cancel("b")
        assert not timers.cancel("b")
        assert timers.claim_due(now, 9) == []
        assert timers.next_due() == now + SECOND
        assert timers.claim_due(now + SECOND, 9) == [
            Timer("a", "k", now + SECOND, b"2")
        ]

    await database.run(transaction)
