"""
The fenced lease: at most one worker's results count, whoever else still runs.

    (absent) ──claim──► held(fence+1) ──finish──► finished (a tombstone)
        │                 │  ▲  │ renew moves ``until``
      flag          release  │  └ ``until`` passes: anyone may claim
        ▼                 ▼  │
      unheld(fence 0) ──► unheld ──claim──┘

Every claim raises the fence by one, and whatever the holder writes is checked
against it: a holder that was paused past its time finds that the fence moved on. A
worker acks its doorbell at once and keeps the lease while it works, so the lease,
not the message, is what a crash leaves behind for others to find.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    Connection,
    Delete,
    Executable,
    Integer,
    Row,
    Select,
    Update,
    and_,
    bindparam,
    delete,
    or_,
    select,
    update,
)
from sqlalchemy.sql.dml import ReturningInsert, ReturningUpdate

from persistence.tables import DialectName, SharedTables, dialect_of, insert_into
from persistence.types import Instant


@dataclass(frozen=True)
class Lease:
    """A lease as the store had it when it was read."""

    name: str
    kind: str
    owner: str
    """Who holds it; empty when nobody does."""
    fence: int
    until: datetime
    flag: str | None
    """What someone wants the holder to know, such as ``cancel``."""
    finished: bool = False


class Leases:
    """The lease table inside one transaction."""

    def __init__(self, conn: Connection, tables: SharedTables) -> None:
        self._conn = conn
        self._sql = _statements(tables, dialect_of(conn))

    def claim(
        self, name: str, kind: str, owner: str, now: datetime, duration: timedelta
    ) -> Lease | None:
        """Take the lease; None when someone holds it alive or it is finished."""
        parameters = {
            "name": name,
            "kind": kind,
            "owner": owner,
            "fence": 1,
            "until": now + duration,
            "flag": None,
            "finished": False,
            "now": now,
        }
        return self._one(self._sql.claim, parameters)

    def renew(self, lease: Lease, now: datetime, duration: timedelta) -> Lease | None:
        """Hold on until ``now + duration``, with the current flag; None when lost."""
        return self._one(self._sql.renew, {**_held(lease), "set_until": now + duration})

    def finish(self, lease: Lease) -> bool:
        """End it for good; False when the fence is stale and nothing may count."""
        return self._conn.execute(self._sql.finish, _held(lease)).rowcount == 1

    def release(self, lease: Lease, now: datetime) -> bool:
        """Let others claim it at once; False when the fence is stale."""
        parameters = {**_held(lease), "set_until": now}
        return self._conn.execute(self._sql.release, parameters).rowcount == 1

    def flag(self, name: str, kind: str, value: str, now: datetime) -> Lease | None:
        """
        Leave a word for the holder, seen at its next renewal or the next claim.

        An absent lease is made, unheld at fence 0, so that a flag may come before
        the doorbell. None when the lease is finished: nobody is left to see it.
        """
        parameters = {
            "name": name,
            "kind": kind,
            "owner": "",
            "fence": 0,
            "until": now,
            "flag": value,
            "finished": False,
        }
        return self._one(self._sql.flag, parameters)

    def get(self, name: str) -> Lease | None:
        """Read one lease, finished ones too."""
        return self._one(self._sql.get, {"name": name})

    def expired(self, kind: str, now: datetime, limit: int) -> list[Lease]:
        """Return unfinished leases that nobody holds alive, longest first."""
        parameters = {"kind": kind, "now": now, "limit": limit}
        found = self._conn.execute(self._sql.expired, parameters)
        return [_lease(row) for row in found]

    def prune(self, before: datetime, limit: int) -> int:
        """Delete at most ``limit`` finished leases whose time ran out before then."""
        parameters = {"before": before, "limit": limit}
        return self._conn.execute(self._sql.prune, parameters).rowcount

    def _one(self, statement: Executable, parameters: dict[str, Any]) -> Lease | None:
        row = self._conn.execute(statement, parameters).first()
        return None if row is None else _lease(row)


def _held(lease: Lease) -> dict[str, object]:
    return {
        "held_name": lease.name,
        "held_owner": lease.owner,
        "held_fence": lease.fence,
    }


def _lease(row: Row[Any]) -> Lease:
    return Lease(
        name=row.name,
        kind=row.kind,
        owner=row.owner,
        fence=row.fence,
        until=row.until,
        flag=row.flag,
        finished=row.finished,
    )


@dataclass(frozen=True)
class _Statements:
    claim: ReturningInsert[Any]
    renew: ReturningUpdate[Any]
    finish: Update
    release: Update
    flag: ReturningInsert[Any]
    get: Select[Any]
    expired: Select[Any]
    prune: Delete


@lru_cache(maxsize=64)
def _statements(tables: SharedTables, dialect: DialectName) -> _Statements:
    lease = tables.lease
    held = and_(
        lease.c.name == bindparam("held_name"),
        lease.c.owner == bindparam("held_owner"),
        lease.c.fence == bindparam("held_fence"),
        lease.c.owner != "",
        lease.c.finished.is_(False),
    )
    tombstones = (
        select(lease.c.name)
        .where(lease.c.finished.is_(True), lease.c.until < bindparam("before"))
        .order_by(lease.c.until)
        .limit(bindparam("limit", type_=Integer))
    )
    set_until = bindparam("set_until", type_=Instant())
    return _Statements(
        claim=_claim_statement(tables, dialect),
        renew=update(lease).where(held).values(until=set_until).returning(*lease.c),
        finish=update(lease).where(held).values(finished=True),
        release=update(lease).where(held).values(owner="", until=set_until),
        flag=_flag_statement(tables, dialect),
        get=select(lease).where(lease.c.name == bindparam("name")),
        expired=select(lease)
        .where(
            lease.c.kind == bindparam("kind"),
            lease.c.finished.is_(False),
            lease.c.until <= bindparam("now"),
        )
        .order_by(lease.c.until, lease.c.name)
        .limit(bindparam("limit", type_=Integer)),
        prune=delete(lease).where(lease.c.name.in_(tombstones)),
    )


def _claim_statement(
    tables: SharedTables, dialect: DialectName
) -> ReturningInsert[Any]:
    lease = tables.lease
    claim = insert_into(lease, dialect)
    # An unheld lease is free whatever its time says: replicas' clocks differ.
    free = or_(
        lease.c.owner == "",
        lease.c.until <= bindparam("now", type_=Instant()),
    )
    return claim.on_conflict_do_update(
        index_elements=[lease.c.name],
        set_={
            "owner": claim.excluded.owner,
            "until": claim.excluded.until,
            "fence": lease.c.fence + 1,
        },
        where=and_(lease.c.finished.is_(False), free),
    ).returning(*lease.c)


def _flag_statement(tables: SharedTables, dialect: DialectName) -> ReturningInsert[Any]:
    lease = tables.lease
    flag = insert_into(lease, dialect)
    return flag.on_conflict_do_update(
        index_elements=[lease.c.name],
        set_={"flag": flag.excluded.flag},
        where=lease.c.finished.is_(False),
    ).returning(*lease.c)
