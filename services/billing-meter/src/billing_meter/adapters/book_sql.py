"""Limits, leases and charges on SQL: Core statements inside one transaction."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Connection,
    Row,
    Table,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    tuple_,
    type_coerce,
    update,
)

from billing_meter.adapters.statements import CHARGE, PUT_CHARGE
from billing_meter.adapters.tables import MeterTable, lease_values
from billing_meter.domain.charges import Charge, SpentKey
from billing_meter.domain.leases import Lease, LeaseState
from billing_meter.domain.limits import Account, Kinds, Limit, bucket, opens
from contracts.budgets import Budget, BudgetScope, ScopeKind
from persistence.tables import dialect_of, insert_into
from persistence.types import EPOCH, MICROSECOND

BUDGET: Final[Table] = MeterTable.metadata.tables["budget"]
SPENT: Final[Table] = MeterTable.metadata.tables["budget_spent"]
LEASE: Final[Table] = MeterTable.metadata.tables["budget_lease"]
LEASE_SCOPE: Final[Table] = MeterTable.metadata.tables["budget_lease_scope"]

BUDGET_KEY: Final = (BUDGET.c.kind, BUDGET.c.scope_id, BUDGET.c.period)
COLUMN_OF: Final = {
    ScopeKind.TENANT: "tenant",
    ScopeKind.TEAM: "team",
    ScopeKind.EMPLOYEE: "employee",
    ScopeKind.TASK: "task_id",
    ScopeKind.USER: "end_user",
    ScopeKind.API_KEY: "api_key_id",
}
"""Where a charge has the id of each kind of scope."""
QUARTER: Final = timedelta(minutes=15)
"""Every time zone's days begin on a quarter of an hour."""
LIMITS_MAX: Final = 1_000


class SqlBooks:
    """The books of limits inside one transaction."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def own(self, tenant: str) -> None:
        """Shut out everybody else from a tenant's books until the commit."""
        self._lock("pg_advisory_xact_lock", tenant)

    def share(self, tenant: str) -> None:
        """Shut out whoever owns a tenant's books until the commit."""
        self._lock("pg_advisory_xact_lock_shared", tenant)

    def limits(self, tenant: str, scopes: Iterable[BudgetScope]) -> Sequence[Limit]:
        """Return a tenant's limits on these scopes."""
        wanted = sorted({(each.kind.value, each.id) for each in scopes})
        rows = self._conn.execute(
            select(BUDGET)
            .where(
                BUDGET.c.tenant == tenant,
                tuple_(BUDGET.c.kind, BUDGET.c.scope_id).in_(wanted),
            )
            .order_by(*BUDGET_KEY)
        )
        return [_limit(row) for row in rows]

    def kinds(self, tenant: str) -> Kinds:
        """Return the kinds of scope that a tenant has limits on."""
        found = self._conn.execute(
            select(BUDGET.c.kind, BUDGET.c.is_hard)
            .where(BUDGET.c.tenant == tenant)
            .distinct()
        ).all()
        return Kinds(
            limited=tuple(sorted({ScopeKind(row.kind) for row in found})),
            hard=tuple(sorted({ScopeKind(row.kind) for row in found if row.is_hard})),
        )

    def page(
        self, tenant: str, after: tuple[str, str, str], count: int
    ) -> Sequence[Limit]:
        """Return limits with keys after one, in the order of their keys."""
        rows = self._conn.execute(
            select(BUDGET)
            .where(BUDGET.c.tenant == tenant, tuple_(*BUDGET_KEY) > after)
            .order_by(*BUDGET_KEY)
            .limit(count)
        )
        return [_limit(row) for row in rows]

    def all_limits(self) -> Sequence[Limit]:
        """Return every tenant's limits, at most ``LIMITS_MAX``."""
        rows = self._conn.execute(
            select(BUDGET).order_by(BUDGET.c.tenant, *BUDGET_KEY).limit(LIMITS_MAX)
        )
        return [_limit(row) for row in rows]

    def put_limit(self, limit: Limit) -> None:
        """Keep a limit in the place of whatever has its key."""
        statement = insert_into(BUDGET, dialect_of(self._conn)).values(
            **_key(limit),
            pico_usd=limit.pico_usd,
            is_hard=limit.budget.is_hard,
            document=limit.budget.model_dump(mode="json"),
        )
        self._conn.execute(
            statement.on_conflict_do_update(
                index_elements=["tenant", "kind", "scope_id", "period"],
                set_={
                    "pico_usd": statement.excluded.pico_usd,
                    "is_hard": statement.excluded.is_hard,
                    "document": statement.excluded.document,
                },
            )
        )

    def lift(self, limit: Limit) -> None:
        """Take away the limit of this key, and its buckets."""
        for table in (SPENT, BUDGET):
            self._conn.execute(delete(table).where(_is_of(table, limit)))

    def count_again(self, limit: Limit) -> None:
        """Fill a limit's buckets from the charges that it is put on."""
        self._conn.execute(delete(SPENT).where(_is_of(SPENT, limit)))
        # The column as the integer that it is: instants are no numbers to SQLAlchemy.
        charged_us = type_coerce(CHARGE.c.charged_at, BigInteger)
        quarter = charged_us // (QUARTER // MICROSECOND)
        rows = self._conn.execute(
            select(quarter.label("quarter"), func.sum(CHARGE.c.pico_usd).label("cost"))
            .where(
                CHARGE.c.tenant == limit.tenant,
                CHARGE.c[COLUMN_OF[limit.scope.kind]] == limit.scope.id,
            )
            .group_by(quarter)
        )
        added: dict[SpentKey, int] = {}
        for row in rows:
            at = EPOCH + int(row.quarter) * QUARTER
            key = (limit, bucket(limit.budget, at))
            added[key] = added.get(key, 0) + int(row.cost)
        self.spend(added)

    def accounts(self, limits: Sequence[Limit], now: datetime) -> Sequence[Account]:
        """Return what counts against limits of one tenant, in their order."""
        if not limits:
            return []
        held, spent = self._held(limits), self._spent(limits, now)
        return [
            Account(limit, cost, held.get(limit.scope, 0), oldest)
            for limit in limits
            for cost, oldest in (spent[limit.key],)
        ]

    def spend(self, added: Mapping[SpentKey, int]) -> None:
        """Add to buckets, in one order, so that no two writers wait for each other."""
        ordered = sorted(added, key=lambda key: (key[0].tenant, key[0].key, key[1]))
        for limit, at in ordered:
            statement = insert_into(SPENT, dialect_of(self._conn)).values(
                **_key(limit), bucket=at, pico_usd=added[limit, at]
            )
            self._conn.execute(
                statement.on_conflict_do_update(
                    index_elements=["tenant", "kind", "scope_id", "period", "bucket"],
                    set_={"pico_usd": SPENT.c.pico_usd + statement.excluded.pico_usd},
                )
            )

    def lapse(self, tenant: str, now: datetime) -> None:
        """Close the tenant's leases that have ended."""
        self._conn.execute(
            update(LEASE)
            .where(
                LEASE.c.tenant == tenant,
                LEASE.c.state != LeaseState.CLOSED.value,
                LEASE.c.ends_at <= now,
            )
            .values(state=LeaseState.CLOSED.value, held=0)
        )

    def lease(self, lease_id: str) -> Lease | None:
        """Return a lease, locked until the commit."""
        row = self._conn.execute(
            select(LEASE).where(LEASE.c.lease_id == lease_id).with_for_update()
        ).first()
        return None if row is None else self._lease(row)

    def add_lease(self, lease: Lease) -> None:
        """Keep a new lease."""
        self._conn.execute(insert(LEASE), lease_values(lease))
        scopes = [
            {
                "lease_id": lease.lease_id,
                "kind": each.kind.value,
                "scope_id": each.id,
                "tenant": lease.tenant,
            }
            for each in dict.fromkeys(lease.scopes)
        ]
        if scopes:
            self._conn.execute(insert(LEASE_SCOPE), scopes)

    def save_lease(self, lease: Lease) -> None:
        """Save a lease that this transaction has read."""
        self._conn.execute(
            update(LEASE)
            .where(LEASE.c.lease_id == lease.lease_id)
            .values(lease_values(lease))
        )

    def charges(self, attempt_ids: Sequence[str]) -> Mapping[str, Charge]:
        """Return what attempts were charged, by attempt."""
        if not attempt_ids:
            return {}
        rows = self._conn.execute(
            select(CHARGE).where(CHARGE.c.attempt_id.in_(attempt_ids))
        )
        return {row.attempt_id: _charge(row) for row in rows}

    def put_charges(self, charges: Iterable[Charge]) -> None:
        """Keep charges, each in the place of its attempt's last."""
        ordered = sorted(charges, key=lambda each: each.attempt_id)
        PUT_CHARGE.change_all(self._conn, [_charge_values(each) for each in ordered])

    def charged_since(self, since: datetime) -> int:
        """Return what all attempts since then cost."""
        total = self._conn.scalar(
            select(func.sum(CHARGE.c.pico_usd)).where(CHARGE.c.charged_at >= since)
        )
        return int(total or 0)

    def forget_leases(self, before: datetime, count: int) -> int:
        """Forget leases that ended before then; return how many."""
        found = self._conn.scalars(
            select(LEASE.c.lease_id)
            .where(LEASE.c.ends_at < before)
            .order_by(LEASE.c.ends_at)
            .limit(count)
        ).all()
        for table in (LEASE_SCOPE, LEASE):
            self._conn.execute(delete(table).where(table.c.lease_id.in_(found)))
        return len(found)

    def _lock(self, function: str, tenant: str) -> None:
        # SQLite has one writer; PostgreSQL gets a lock by the tenant's name.
        if dialect_of(self._conn) == "postgresql":
            statement = text(f"SELECT {function}(hashtextextended(:name, 0))")
            self._conn.execute(statement, {"name": f"budgets:{tenant}"})

    def _held(self, limits: Sequence[Limit]) -> Mapping[BudgetScope, int]:
        scopes = {(each.scope.kind.value, each.scope.id) for each in limits}
        rows = self._conn.execute(
            select(
                LEASE_SCOPE.c.kind,
                LEASE_SCOPE.c.scope_id,
                func.sum(LEASE.c.held).label("held"),
            )
            .join(LEASE, LEASE.c.lease_id == LEASE_SCOPE.c.lease_id)
            .where(
                LEASE_SCOPE.c.tenant == limits[0].tenant,
                tuple_(LEASE_SCOPE.c.kind, LEASE_SCOPE.c.scope_id).in_(sorted(scopes)),
                LEASE.c.state != LeaseState.CLOSED.value,
            )
            .group_by(LEASE_SCOPE.c.kind, LEASE_SCOPE.c.scope_id)
        )
        return {
            BudgetScope(kind=ScopeKind(row.kind), id=row.scope_id): int(row.held)
            for row in rows
        }

    def _spent(
        self, limits: Sequence[Limit], now: datetime
    ) -> Mapping[tuple[str, str, str], tuple[int, datetime | None]]:
        """Return what each limit's open buckets hold, and the oldest of them."""
        rows = self._conn.execute(
            select(
                SPENT.c.kind,
                SPENT.c.scope_id,
                SPENT.c.period,
                func.sum(SPENT.c.pico_usd).label("cost"),
                func.min(SPENT.c.bucket).label("oldest"),
            )
            .where(
                or_(
                    *(
                        and_(
                            _is_of(SPENT, each),
                            SPENT.c.bucket >= opens(each.budget, now),
                        )
                        for each in limits
                    )
                )
            )
            .group_by(SPENT.c.kind, SPENT.c.scope_id, SPENT.c.period)
        )
        found = {
            (row.kind, row.scope_id, row.period): (int(row.cost), row.oldest)
            for row in rows
        }
        return {each.key: found.get(each.key, (0, None)) for each in limits}

    # Any: SQLAlchemy's rows are typed by their statement, not by their table.
    def _lease(self, row: Row[Any]) -> Lease:
        scopes = self._conn.execute(
            select(LEASE_SCOPE)
            .where(LEASE_SCOPE.c.lease_id == row.lease_id)
            .order_by(LEASE_SCOPE.c.kind, LEASE_SCOPE.c.scope_id)
        )
        return Lease(
            lease_id=row.lease_id,
            tenant=row.tenant,
            instance=row.instance,
            scopes=tuple(
                BudgetScope(kind=ScopeKind(each.kind), id=each.scope_id)
                for each in scopes
            ),
            granted=row.granted,
            cap=row.cap,
            seen=row.seen,
            seen_attempts=row.seen_attempts,
            told_attempts=row.told_attempts,
            is_hard=row.is_hard,
            state=LeaseState(row.state),
            granted_at=row.granted_at,
            expires_at=row.expires_at,
            ends_at=row.ends_at,
        )


def _key(limit: Limit) -> dict[str, object]:
    kind, scope_id, period = limit.key
    return {
        "tenant": limit.tenant,
        "kind": kind,
        "scope_id": scope_id,
        "period": period,
    }


# Any: SQLAlchemy types conditions by what they compare.
def _is_of(table: Table, limit: Limit) -> Any:
    return and_(*(table.c[name] == value for name, value in _key(limit).items()))


def _limit(row: Row[Any]) -> Limit:
    return Limit(row.tenant, Budget.model_validate(row.document), row.pico_usd)


def _charge_values(charge: Charge) -> dict[str, object]:
    of = {each.kind: each.id for each in charge.scopes}
    return {
        **{column: of.get(kind) for kind, column in COLUMN_OF.items()},
        "attempt_id": charge.attempt_id,
        "tenant": charge.tenant,
        "lease_id": charge.lease_id,
        "charged_at": charge.charged_at,
        "pico_usd": charge.pico_usd,
    }


def _charge(row: Row[Any]) -> Charge:
    ids = {kind: getattr(row, column) for kind, column in COLUMN_OF.items()}
    return Charge(
        attempt_id=row.attempt_id,
        tenant=row.tenant,
        scopes=tuple(BudgetScope(kind=kind, id=of) for kind, of in ids.items() if of),
        lease_id=row.lease_id,
        charged_at=row.charged_at,
        pico_usd=row.pico_usd,
    )
