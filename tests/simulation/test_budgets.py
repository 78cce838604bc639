"""A hard budget under concurrency: never too much, and nothing refused in vain."""

import asyncio
from collections import Counter

import pytest

from contracts.budgets import Budget, BudgetPeriod, BudgetScope, ScopeKind
from contracts.frames import Failed, Finished
from contracts.money import usd
from contracts.problems import Code
from contracts.subjects import Service
from testkit.clock import SimulationLoop, run_simulation
from testkit.money_world import (
    INPUT_PICO_USD,
    OUTPUT_PICO_USD,
    TENANT,
    MoneyWorld,
)

CALLS = 1_000
AFFORDABLE = 400
OUTPUT_TOKENS = 300
COST = 4 * INPUT_PICO_USD + OUTPUT_TOKENS * OUTPUT_PICO_USD
"""Of a call: the vendor counts half a token per byte of eight."""


def limit(pico_usd: int, **options: object) -> Budget:
    """Return a hard lifetime budget of the tenant."""
    fields: dict[str, object] = {
        "scope": BudgetScope(kind=ScopeKind.TENANT, id=TENANT),
        "period": BudgetPeriod.LIFETIME,
        "limit_usd": usd(pico_usd),
    }
    return Budget.model_validate(fields | options)


@pytest.mark.timeout(900)
def test_a_thousand_calls_spend_a_hard_budget_to_its_end() -> None:
    """
    Two replicas, one budget: nothing is overshot, and nothing refused in vain.

    Each call reserves more than three times what it will cost.
    """

    async def scene(loop: SimulationLoop) -> None:
        world = MoneyWorld(loop, seed=1)
        world.vendor.output_tokens = OUTPUT_TOKENS
        await world.start()
        await world.apply(limit(AFFORDABLE * COST))

        async def insist(number: int) -> Finished | Failed:
            """Ask again when a replica is full, which says so at once."""
            while True:
                asked = world.call(
                    f"call-{number}", within_s=900, output_tokens_max=1_000
                )
                if (end := await asked) is not None:
                    return end
                await world.clock.sleep(0.5)

        ends = await asyncio.gather(*map(insist, range(CALLS)))
        told = Counter(
            type(end).__name__
            if not isinstance(end, Failed)
            else end.error.problem.code
            for end in ends
        )
        (left,) = await world.until_returned(60)
        assert world.findings == []
        assert world.vendor.pico_usd <= AFFORDABLE * COST
        assert left.spent_pico_usd == world.vendor.pico_usd
        # What is left would not pay the shortest answer that is worth a call.
        assert left.free_pico_usd < 256 * OUTPUT_PICO_USD + 12 * INPUT_PICO_USD
        assert told[Finished.__name__] >= AFFORDABLE
        assert set(told) == {Finished.__name__, Code.BUDGET_EXHAUSTED}

    run_simulation(scene, limit_s=5_000)


@pytest.mark.timeout(600)
def test_crashes_neither_overshoot_nor_hold_money_for_long() -> None:
    """
    Brokers and the meter die in the middle of calls, on a tight budget.

    What they held comes back by those who share their store: soon after each slice's
    time, and not only after the longest call.
    """

    async def scene(loop: SimulationLoop) -> None:
        world = MoneyWorld(loop, seed=3)
        await world.start()
        budget = 12 * 1_000 * OUTPUT_PICO_USD
        await world.apply(limit(budget))

        async def insist(number: int) -> str:
            for _ in range(200):
                end = await world.call(f"call-{number}", output_tokens_max=1_000)
                if isinstance(end, Finished):
                    return "finished"
                if end is not None and not end.error.retryable:
                    return end.error.problem.code
                await world.clock.sleep(1)
            raise AssertionError(f"call-{number} never ended")

        async def trouble() -> None:
            for number in range(4):
                await world.clock.sleep(2)
                world.crash(Service.AI_BROKER, number % 2)
                if number == 2:
                    world.crash(Service.BILLING_METER, 0)

        *told, _ = await asyncio.gather(*map(insist, range(40)), trouble())
        ends = Counter(told)
        (left,) = await world.until_returned(200)
        assert world.findings == []
        assert world.crashes == 5
        assert world.vendor.pico_usd <= budget
        # An attempt whose end nobody heard is on the ledger by estimate.
        assert left.spent_pico_usd <= budget
        assert left.free_pico_usd < 256 * OUTPUT_PICO_USD + 12 * INPUT_PICO_USD
        assert set(ends) == {"finished", Code.BUDGET_EXHAUSTED}

    run_simulation(scene, limit_s=5_000)
