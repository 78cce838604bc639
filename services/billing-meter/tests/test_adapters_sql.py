"""The ledger on SQLite and PostgreSQL: migrations, and two writers at once."""

import asyncio
from collections.abc import Awaitable, Callable

from billing_world import NOW, batch, delivery, deps_on, letters, record
from sqlalchemy import func, select

from billing_meter import handlers
from billing_meter.adapters.statements import ENTRY, LINE, ROLLUP
from billing_meter.adapters.tables import MeterTable
from billing_meter.ports import Deps
from contracts.budgets import (
    ApplyBudget,
    Budget,
    BudgetPeriod,
    BudgetScope,
    GetBalances,
    LeaseRequest,
    LeaseReturn,
    ScopeKind,
)
from contracts.ledger import GetTaskCost, LedgerLine, ListLedger
from contracts.usage import TokenUsage, UsageBatch, UsageRecord, UsageSource
from faults import TransientFault
from persistence.database import Database
from persistence.migrations import differences

TRIES = 20


async def test_migrations_build_what_the_tables_declare(
    databases: tuple[Database, Database],
) -> None:
    """The schema of a migrated ledger is the one that the code was written for."""
    found = await databases[0].read(lambda conn: differences(conn, MeterTable.metadata))
    assert found == []


async def redelivered(work: Callable[[], Awaitable[None]]) -> None:
    """Do what JetStream does: again after a transient fault."""
    for _ in range(TRIES):
        try:
            await work()
        except TransientFault:
            continue
        return
    raise AssertionError("it never went through")


async def meter(deps: Deps, message_id: str, *records: UsageRecord) -> None:
    """Meter a batch until it is taken."""
    message = batch(*records)
    await redelivered(lambda: handlers.meter_usage(message, delivery(message_id), deps))


async def lines(deps: Deps) -> list[LedgerLine]:
    """Return all lines in force."""
    page = await handlers.ledger(ListLedger(tenant="acme", limit=500), deps)
    return list(page.lines)


async def prove_sound(database: Database) -> None:
    """Entries sum to zero, each transaction by itself; rollups are the lines' sums."""
    per_transaction = select(func.sum(ENTRY.c.pico_usd)).group_by(
        ENTRY.c.transaction_id
    )
    sums = await database.read(
        lambda conn: conn.execute(per_transaction).scalars().all()
    )
    assert {int(each) for each in sums} == {0}
    of_lines = select(LINE.c.task_id, func.sum(LINE.c.pico_usd), func.count()).where(
        LINE.c.in_force
    )
    told = select(ROLLUP.c.task_id, ROLLUP.c.pico_usd, ROLLUP.c.attempts)
    expected, found = await database.read(
        lambda conn: (
            conn.execute(of_lines.group_by(LINE.c.task_id)).all(),
            conn.execute(told).all(),
        )
    )
    assert sorted((t, int(p), n) for t, p, n in expected) == sorted(
        (t, int(p), n) for t, p, n in found
    )


async def test_two_writers_bill_one_attempt_once(
    databases: tuple[Database, Database],
) -> None:
    """Equal records under different message ids, at once: one line each."""
    deps = [deps_on(each) for each in databases]
    for number in range(8):
        same = record(f"attempt_{number}")
        await asyncio.gather(
            *(meter(deps[n % 2], f"{number}.{n}", same) for n in range(4))
        )
    assert len(await lines(deps[0])) == 8
    assert await letters(databases[0]) == []
    await prove_sound(databases[0])


async def test_two_writers_agree_on_the_highest_revision(
    databases: tuple[Database, Database],
) -> None:
    """Whoever is first, each reversal happens once and the newest usage stands."""
    deps = [deps_on(each) for each in databases]
    for number in range(8):
        revisions = [
            record(
                f"attempt_{number}",
                revision=revision,
                usage=TokenUsage(input_tokens=10 * revision + 1),
                source=UsageSource.VENDOR if revision else UsageSource.UNKNOWN,
            )
            for revision in range(4)
        ]
        await asyncio.gather(
            *(
                meter(deps[each.revision % 2], f"{number}.{each.revision}", each)
                for each in revisions
            )
        )
    assert {line.revision for line in await lines(deps[0])} == {3}
    await prove_sound(databases[0])
    request = GetTaskCost(tenant="acme", task_ids=("task_1",))
    (cost,) = (await handlers.task_costs(request, deps[1])).costs
    assert (cost.attempts, cost.estimated_attempts) == (8, 0)
    assert cost.pico_usd == 8 * 31 * 150_000


async def test_batches_that_share_tasks_do_not_lock_each_other(
    databases: tuple[Database, Database],
) -> None:
    """Opposite orders of the same tasks: no writer waits for a deadlock's end."""
    deps = [deps_on(each) for each in databases]
    for turn in range(5):
        forth = [record(f"f_{turn}_{n}", task_id=f"task_{n}") for n in range(20)]
        back = [record(f"b_{turn}_{n}", task_id=f"task_{n}") for n in range(20)]
        # Not ``meter``: a transient fault would be the deadlock that we look for.
        await asyncio.gather(
            handlers.meter_usage(batch(*forth), delivery(f"f{turn}"), deps[0]),
            handlers.meter_usage(batch(*back[::-1]), delivery(f"b{turn}"), deps[1]),
        )
    assert len(await lines(deps[0])) == 200
    await prove_sound(databases[1])


async def test_a_repeated_message_is_dropped_by_either_writer(
    databases: tuple[Database, Database],
) -> None:
    """The inbox is the store's, not the process's."""
    deps = [deps_on(each) for each in databases]
    message = UsageBatch(batch_id="b", tenant="acme", records=(record("attempt_1"),))
    for each in (*deps, *deps):
        await handlers.meter_usage(message, delivery("m1"), each)
    assert len(await lines(deps[0])) == 1
    await prove_sound(databases[0])


async def test_two_meters_never_lend_the_same_money(
    databases: tuple[Database, Database],
) -> None:
    """Requests, returns and usage at once on both: what is lent was free."""
    deps = [deps_on(each) for each in databases]
    scope = BudgetScope(kind=ScopeKind.TENANT, id="acme")
    budget = Budget(scope=scope, period=BudgetPeriod.LIFETIME, limit_usd="0.001")
    await handlers.apply_budget(ApplyBudget(tenant="acme", budget=budget), deps[0])
    pico_usd = 10**8  # a tenth of the limit

    async def lend(number: int) -> str | None:
        request = LeaseRequest(
            lease_id=f"lease_{number}",
            tenant="acme",
            instance="broker-1",
            scopes=(scope,),
            pico_usd_min=pico_usd,
            pico_usd_wanted=pico_usd,
            deadline=NOW,
        )
        reply = await handlers.lease(request, deps[number % 2])
        return None if reply.grant is None else reply.grant.lease_id

    async def use(number: int, lease_id: str) -> None:
        tokens = TokenUsage(input_tokens=100)
        used = record(f"attempt_{number}", usage=tokens, lease_id=lease_id)
        await meter(deps[number % 2], f"m{number}", used)
        message = LeaseReturn(
            lease_id=lease_id,
            tenant="acme",
            instance="broker-1",
            spent_pico_usd=100 * 150_000,
            reserved_pico_usd=0,
            attempts=1,
        )
        await handlers.return_lease(message, deps[(number + 1) % 2])

    lent = [each for each in await asyncio.gather(*map(lend, range(24))) if each]
    assert len(lent) == 10
    await asyncio.gather(*(use(number, each) for number, each in enumerate(lent)))
    page = await handlers.balances(GetBalances(tenant="acme", scopes=(scope,)), deps[1])
    (left,) = page.budgets
    assert (left.spent_pico_usd, left.held_pico_usd) == (10 * 100 * 150_000, 0)
    await handlers.apply_budget(ApplyBudget(tenant="acme", budget=budget), deps[1])
    again = await handlers.balances(
        GetBalances(tenant="acme", scopes=(scope,)), deps[0]
    )
    assert again == page


async def test_a_budget_put_while_usage_comes_counts_all_of_it(
    databases: tuple[Database, Database],
) -> None:
    """No record falls between what was counted and what is counted from now on."""
    deps = [deps_on(each) for each in databases]
    scope = BudgetScope(kind=ScopeKind.TASK, id="task_1")
    budget = Budget(scope=scope, period=BudgetPeriod.MONTH, limit_usd="1")
    applied = ApplyBudget(tenant="acme", budget=budget)
    for turn in range(5):
        usage = (
            meter(deps[n % 2], f"{turn}.{n}", record(f"attempt_{turn}_{n}"))
            for n in range(6)
        )
        await asyncio.gather(*usage, handlers.apply_budget(applied, deps[turn % 2]))
    page = await handlers.balances(GetBalances(tenant="acme", scopes=(scope,)), deps[0])
    assert page.budgets[0].spent_pico_usd == 30 * (1000 * 150_000 + 100 * 600_000)


async def test_pages_continue_on_either_replica(
    databases: tuple[Database, Database],
) -> None:
    """A cursor of one replica is understood by the other."""
    deps = [deps_on(each) for each in databases]
    await meter(deps[0], "m1", *(record(f"attempt_{n}") for n in range(5)))
    seen: list[str] = []
    cursor: str | None = None
    for turn in range(3):
        request = ListLedger(tenant="acme", limit=2, cursor=cursor)
        page = await handlers.ledger(request, deps[turn % 2])
        seen += [line.attempt_id for line in page.lines]
        cursor = page.next_cursor
    assert cursor is None
    assert sorted(seen) == [f"attempt_{n}" for n in range(5)]
