"""Budgets through the handlers: what is spent, held and free, whatever comes."""

import asyncio
from datetime import datetime, timedelta

import pytest
from billing_world import NOW, Rung, batch, delivery, deps_on, record

from billing_meter import handlers
from billing_meter.adapters.tables import MeterTable
from billing_meter.ports import Deps
from contracts.budgets import (
    ApplyBudget,
    Budget,
    BudgetPeriod,
    BudgetScope,
    BudgetView,
    GetBalances,
    LeaseRecall,
    LeaseReply,
    LeaseRequest,
    LeaseReturn,
    ListBudgets,
    ScopeKind,
)
from contracts.problems import Code
from contracts.usage import TokenUsage, UsageSource
from messaging.refusals import Refused
from persistence.inline import InlineDatabase
from testkit.clock import SimulatedClock, SimulationLoop, run_simulation

COST = 1000 * 150_000 + 100 * 600_000
"""Of one record of ``billing_world.record``."""
TENANT = BudgetScope(kind=ScopeKind.TENANT, id="acme")
CLERK = BudgetScope(kind=ScopeKind.EMPLOYEE, id="clerk")


def usd(pico_usd: int) -> str:
    """Return an amount as a budget has it."""
    return f"{pico_usd // 10**12}.{pico_usd % 10**12:012d}"


async def apply(
    deps: Deps, pico_usd: int | None, scope: BudgetScope = TENANT, **options: object
) -> BudgetView:
    """Put a daily budget on a scope."""
    fields = {
        "scope": scope,
        "period": BudgetPeriod.DAY,
        "limit_usd": None if pico_usd is None else usd(pico_usd),
    }
    budget = Budget.model_validate(fields | options)
    return await handlers.apply_budget(ApplyBudget(tenant="acme", budget=budget), deps)


async def ask(
    deps: Deps,
    lease_id: str,
    pico_usd: int,
    *scopes: BudgetScope,
    deadline: datetime = NOW,
) -> LeaseReply:
    """Ask for a slice of exactly this size."""
    request = LeaseRequest(
        lease_id=lease_id,
        tenant="acme",
        instance="broker-1",
        scopes=scopes or (TENANT,),
        pico_usd_min=pico_usd,
        pico_usd_enough=pico_usd,
        pico_usd_wanted=pico_usd,
        deadline=deadline,
    )
    return await handlers.lease(request, deps)


async def give_back(
    deps: Deps, lease_id: str, spent: int, reserved: int, attempts: int | None = None
) -> None:
    """Return a lease."""
    message = LeaseReturn(
        lease_id=lease_id,
        tenant="acme",
        instance="broker-1",
        spent_pico_usd=spent,
        reserved_pico_usd=reserved,
        attempts=attempts,
    )
    await handlers.return_lease(message, deps)


async def left(deps: Deps, scope: BudgetScope = TENANT) -> tuple[int, int, int]:
    """Return what is spent, held and free of a scope's one budget."""
    page = await handlers.balances(GetBalances(tenant="acme", scopes=(scope,)), deps)
    (found,) = page.budgets
    sums = (found.spent_pico_usd, found.held_pico_usd, found.free_pico_usd)
    assert sum(sums) == found.limit_pico_usd
    return sums


async def test_a_slice_is_held_on_every_limit_or_on_none(deps: Deps) -> None:
    """The employee's budget is too small: the tenant's is not touched."""
    await apply(deps, 100)
    await apply(deps, 10, CLERK)
    refused = await ask(deps, "lease_1", 20, TENANT, CLERK)
    assert refused.grant is None
    assert refused.refused_scope == CLERK
    assert await left(deps) == (0, 0, 100)
    granted = await ask(deps, "lease_2", 10, TENANT, CLERK)
    assert granted.grant is not None
    assert granted.grant.scopes == (CLERK, TENANT)
    assert await left(deps) == (0, 10, 90)
    assert await left(deps, CLERK) == (0, 10, 0)


async def test_usage_moves_from_held_to_spent_once(deps: Deps) -> None:
    """Two messages with one record: the attempt counts once, its lease settles."""
    await apply(deps, 10 * COST)
    await ask(deps, "lease_1", 2 * COST)
    for message_id in ("m1", "m1", "m2"):
        used = record("attempt_1", lease_id="lease_1")
        await handlers.meter_usage(batch(used), delivery(message_id), deps)
    assert await left(deps) == (COST, COST, 8 * COST)
    await give_back(deps, "lease_1", COST, 0, attempts=1)
    assert await left(deps) == (COST, 0, 9 * COST)


async def test_a_revision_corrects_what_was_spent(deps: Deps) -> None:
    """The estimate of a dead replica's attempt becomes what the vendor reports."""
    await apply(deps, 10 * COST)
    await ask(deps, "lease_1", 2 * COST)
    unknown = record("attempt_1", lease_id="lease_1", source=UsageSource.UNKNOWN)
    real = record(
        "attempt_1",
        lease_id="lease_1",
        revision=1,
        usage=TokenUsage(input_tokens=10),
    )
    await handlers.meter_usage(batch(unknown), delivery("m1"), deps)
    assert await left(deps) == (COST, COST, 8 * COST)
    await handlers.meter_usage(batch(real), delivery("m2"), deps)
    spent = 10 * 150_000
    assert await left(deps) == (spent, 2 * COST - spent, 8 * COST)


async def test_a_record_that_comes_after_the_return_is_still_the_leases(
    deps: Deps,
) -> None:
    """Returned, then metered by the outbox of another replica: counted once."""
    await apply(deps, 10 * COST)
    await ask(deps, "lease_1", 2 * COST)
    await give_back(deps, "lease_1", COST, 0, attempts=1)
    assert await left(deps) == (0, COST, 9 * COST)
    used = record("attempt_1", lease_id="lease_1")
    await handlers.meter_usage(batch(used), delivery("m1"), deps)
    assert await left(deps) == (COST, 0, 9 * COST)


async def test_usage_without_a_lease_is_spent(deps: Deps) -> None:
    """What a soft budget let pass while we were away counts all the same."""
    await apply(deps, 10 * COST)
    await handlers.meter_usage(batch(record("attempt_1")), delivery("m1"), deps)
    assert await left(deps) == (COST, 0, 9 * COST)


async def test_a_new_budget_knows_what_its_period_has_cost(deps: Deps) -> None:
    """A limit put in the middle of the day begins with the morning's spending."""
    await handlers.meter_usage(
        batch(
            record("attempt_1", employee="clerk"),
            record("attempt_2", employee="other"),
            record("attempt_3", occurred_at=NOW - timedelta(days=1)),
        ),
        delivery("m1"),
        deps,
    )
    assert (await apply(deps, 10 * COST)).spent_pico_usd == 2 * COST
    assert (await apply(deps, 10 * COST, CLERK)).spent_pico_usd == COST
    whole = await apply(deps, 10 * COST, period=BudgetPeriod.LIFETIME)
    assert whole.spent_pico_usd == 3 * COST


async def test_a_day_that_is_over_frees_its_budget(deps: Deps) -> None:
    """Yesterday's spending does not count today; today's begins at midnight there."""
    await apply(deps, 10 * COST, time_zone="Asia/Tokyo")
    before_midnight = record("attempt_1", occurred_at=NOW.replace(hour=14) - DAY)
    after_midnight = record("attempt_2", occurred_at=NOW.replace(hour=15) - DAY)
    await handlers.meter_usage(
        batch(before_midnight, after_midnight), delivery("m1"), deps
    )
    assert await left(deps) == (COST, 0, 9 * COST)


DAY = timedelta(days=1)


async def test_an_attempt_counts_not_before_its_lease(deps: Deps) -> None:
    """A replica's clock that is behind must not charge a day that was full."""
    await apply(deps, 10 * COST)
    await ask(deps, "lease_1", COST)
    early = record("attempt_1", lease_id="lease_1", occurred_at=NOW - DAY)
    await handlers.meter_usage(batch(early), delivery("m1"), deps)
    assert await left(deps) == (COST, 0, 9 * COST)


async def test_a_refusal_names_the_scope_and_when_it_resets(deps: Deps) -> None:
    """Who is refused learns whose budget it was, and when to come again."""
    await apply(deps, 5)
    reply = await ask(deps, "lease_1", 6)
    assert reply.refusal is not None
    assert reply.refusal.code is Code.BUDGET_EXHAUSTED
    assert "day budget of tenant acme" in reply.refusal.detail
    assert reply.resets_at == NOW.replace(hour=0, minute=0) + DAY
    assert reply.is_final


async def test_a_tenant_without_budgets_is_told_so(deps: Deps) -> None:
    """Its brokers need not ask again for any scope of it."""
    reply = await ask(deps, "lease_1", 5)
    assert reply.is_unlimited
    assert reply.limited_kinds == ()
    await apply(deps, 5, CLERK)
    other = await ask(deps, "lease_2", 5)
    assert other.is_unlimited
    assert other.limited_kinds == (ScopeKind.EMPLOYEE,)


async def test_a_return_that_overtakes_its_request_wins(deps: Deps) -> None:
    """A replica that gave up asking gets no slice that nobody would return."""
    await apply(deps, 100)
    await give_back(deps, "lease_1", 0, 0, attempts=0)
    reply = await ask(deps, "lease_1", 5)
    assert reply.refusal is not None
    assert reply.refusal.code is Code.CONFLICT
    assert await left(deps) == (0, 0, 100)


async def test_another_tenants_lease_is_not_returned(deps: Deps) -> None:
    """A tenant's books are touched in its own name only."""
    await apply(deps, 100)
    await ask(deps, "lease_1", 50)
    theirs = LeaseReturn(
        lease_id="lease_1",
        tenant="globex",
        instance="broker-1",
        spent_pico_usd=0,
        reserved_pico_usd=0,
        attempts=0,
    )
    await handlers.return_lease(theirs, deps)
    assert await left(deps) == (0, 50, 50)


async def test_a_budget_is_taken_away(deps: Deps) -> None:
    """Without its limit the tenant spends freely again."""
    await apply(deps, 5)
    await apply(deps, None)
    assert (await ask(deps, "lease_1", 50)).is_unlimited
    page = await handlers.list_budgets(ListBudgets(tenant="acme"), deps)
    assert page.budgets == ()


async def test_a_tenants_budget_names_the_tenant(deps: Deps) -> None:
    """A budget that could never count anything is a mistake."""
    with pytest.raises(Refused, match="must name it"):
        await apply(deps, 5, BudgetScope(kind=ScopeKind.TENANT, id="globex"))


async def test_budgets_come_in_pages(deps: Deps) -> None:
    """Each budget is listed once, whatever is in its name."""
    for name in ("a|b", "c", "d d", "é"):
        await apply(deps, 5, BudgetScope(kind=ScopeKind.USER, id=name))
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(2):
        request = ListBudgets(tenant="acme", limit=2, cursor=cursor)
        page = await handlers.list_budgets(request, deps)
        seen += [each.budget.scope.id for each in page.budgets]
        cursor = page.next_cursor
    assert cursor is None
    assert seen == ["a|b", "c", "d d", "é"]
    with pytest.raises(Refused, match="no cursor"):
        await handlers.list_budgets(ListBudgets(tenant="acme", cursor="x"), deps)


def test_a_request_waits_for_what_others_return() -> None:
    """Idle slices are asked for, and what comes in time is no refusal."""

    async def scene(loop: SimulationLoop) -> None:
        clock = SimulatedClock(loop)
        deps = deps_on(InlineDatabase.create(MeterTable.metadata), clock)
        bells = deps.bells
        assert isinstance(bells, Rung)
        await apply(deps, 10)
        await ask(deps, "lease_1", 10, deadline=clock.now())
        bells.rung.clear()
        later = clock.now() + timedelta(seconds=5)
        waiting = asyncio.create_task(ask(deps, "lease_2", 10, deadline=later))
        await clock.sleep(1.5)
        recall = LeaseRecall(tenant="acme", scopes=(TENANT,))
        assert bells.rung == [("svc.ai-broker.every.recall.acme", recall)] * 2
        assert not waiting.done()
        await give_back(deps, "lease_1", 0, 0, attempts=0)
        assert (await waiting).grant is not None
        refused = await ask(
            deps, "lease_3", 10, deadline=clock.now() + timedelta(seconds=2)
        )
        assert refused.refusal is not None
        assert not refused.is_final

    run_simulation(scene, limit_s=60)


def test_a_lease_of_a_dead_replica_ends_by_itself() -> None:
    """Held for the longest call and its grace; then the money is there again."""

    async def scene(loop: SimulationLoop) -> None:
        clock = SimulatedClock(loop)
        deps = deps_on(InlineDatabase.create(MeterTable.metadata), clock)
        await apply(deps, 10, period=BudgetPeriod.LIFETIME)
        await ask(deps, "lease_1", 10, deadline=clock.now())
        held_s = (deps.terms.lease + deps.terms.tail).total_seconds()
        await clock.sleep(held_s - 1)
        assert (await ask(deps, "lease_2", 5, deadline=clock.now())).grant is None
        await clock.sleep(1)
        assert (await ask(deps, "lease_2", 5, deadline=clock.now())).grant is not None

    run_simulation(scene, limit_s=10_000)
