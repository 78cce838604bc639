"""A replica's purse: reserved in the attempt's commit, settled in the settlement's."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from broker_world import DONE, GOOD, Sink, World, play
from sqlalchemy import select

from ai_broker.adapters.slices import SqlSlices
from ai_broker.adapters.tables import ATTEMPT, SLICE
from ai_broker.handlers.money import Money
from contracts.budgets import (
    BudgetScope,
    LeaseGrant,
    LeaseRecall,
    LeaseReply,
    LeaseRequest,
    LeaseReturn,
    ScopeKind,
)
from contracts.prices import PriceBook, UnitPrices
from contracts.problems import Code, problem
from determinism import Clock
from faults import TransientFault
from pricing import make_book
from pricing.table import PARTS

TENANT = BudgetScope(kind=ScopeKind.TENANT, id="acme")
COST = 11 + 7
"""Of an answer by the script, at one pico-USD a token."""
ANSWER = (*GOOD, DONE)


@dataclass
class FakeMeter:
    """Lends from one limit of the tenant, if it has one."""

    clock: Clock
    limit: int | None = None
    is_hard: bool = True
    is_away: bool = False
    is_final: bool = True
    """Whether it says that waiting cannot help."""
    asked: list[LeaseRequest] = field(default_factory=list[LeaseRequest])
    returned: list[LeaseReturn] = field(default_factory=list[LeaseReturn])

    async def lease(self, request: LeaseRequest) -> LeaseReply:
        self._answer()
        self.asked.append(request)
        kinds = () if self.limit is None else (ScopeKind.TENANT,)
        told = LeaseReply(limited_kinds=kinds, hard_kinds=kinds if self.is_hard else ())
        if self.limit is None:
            return told.model_copy(update={"is_unlimited": True})
        lent = min(self.limit, request.pico_usd_wanted)
        if lent < request.pico_usd_min:
            if not self.is_final:
                left = request.deadline - self.clock.now()
                await self.clock.sleep(max(0.0, left.total_seconds()))
            refusal = problem(Code.BUDGET_EXHAUSTED, "tenant acme has no money")
            return told.model_copy(
                update={"refusal": refusal, "is_final": self.is_final}
            )
        self.limit -= lent
        grant = LeaseGrant(
            lease_id=request.lease_id,
            pico_usd=lent,
            is_hard=self.is_hard,
            expires_at=self.clock.now() + timedelta(seconds=30),
            scopes=(TENANT,),
        )
        return told.model_copy(update={"grant": grant})

    async def give_back(self, message: LeaseReturn) -> None:
        self._answer()
        self.returned.append(message)

    async def prices(self) -> PriceBook:
        self._answer()
        rates = UnitPrices.model_validate(dict.fromkeys(PARTS, 1))
        return make_book("flat", (), rates)

    def _answer(self) -> None:
        if self.is_away:
            raise TransientFault("ask billing-meter: nobody answers")


def money_of(world: World, meter: FakeMeter, name: str = "one") -> Money:
    """Give a replica a purse."""
    slices = SqlSlices(world.database)
    return Money(meter, slices, world.clock, world.ids, name)


async def rows(world: World) -> list[tuple[str | None, int, str]]:
    """Return every attempt's lease, reservation and state."""
    query = select(
        ATTEMPT.c.lease_id, ATTEMPT.c.reserved_pico_usd, ATTEMPT.c.state
    ).order_by(ATTEMPT.c.number)
    found = await world.database.read(lambda conn: conn.execute(query).all())
    return [(row.lease_id, row.reserved_pico_usd, row.state) for row in found]


def test_a_tenant_without_budgets_asks_the_meter_once() -> None:
    """Then money costs nothing on the way to a vendor, for half a minute."""

    async def scene(world: World) -> None:
        meter = FakeMeter(world.clock)
        desk = world.replica("one", money=money_of(world, meter))
        world.first.scripts += [ANSWER] * 4
        for number in range(3):
            sink = await world.ask(desk, completion_id=f"c{number}", task_id="t1")
            assert sink.finished.completion.usage.total == COST
        assert len(meter.asked) == 1
        assert await rows(world) == [(None, 0, "completed")] * 3
        await world.clock.sleep(31)
        await world.ask(desk, completion_id="c3")
        assert len(meter.asked) == 2

    play(scene)


def test_an_attempt_is_reserved_with_its_row_and_settled_with_its_record() -> None:
    """The store knows the lease, the amount and the end: another replica can tell."""

    async def scene(world: World) -> None:
        meter = FakeMeter(world.clock, limit=100_000)
        money = money_of(world, meter)
        desk = world.replica("one", money=money)
        world.first.scripts += [(5.0, *ANSWER), ANSWER]
        asking = asyncio.create_task(world.ask(desk, output_tokens_max=400))
        await world.clock.sleep(1)
        ((lease_id, reserved, state),) = await rows(world)
        assert state == "dispatched"
        assert reserved >= 400
        assert lease_id == meter.asked[0].lease_id
        await asking
        (_, lent) = money.purse.lent[lease_id or ""]
        assert (lent.spent, lent.reserved) == (COST, 0)
        await world.ask(desk, completion_id="c2", output_tokens_max=400)
        assert len(meter.asked) == 1
        (first, _) = await world.ledger()
        assert first.lease_id == lease_id

    play(scene)


def test_a_budget_that_is_used_up_is_402_and_costs_nothing() -> None:
    """Nothing is dispatched; what was answered before is given all the same."""

    async def scene(world: World) -> None:
        meter = FakeMeter(world.clock, limit=3_000)
        desk = world.replica("one", money=money_of(world, meter))
        world.first.scripts += [ANSWER]
        await world.ask(desk, output_tokens_max=400)
        meter.limit = 0
        await world.clock.sleep(31)
        refused = await world.ask(desk, completion_id="c2", output_tokens_max=400)
        assert refused.code is Code.BUDGET_EXHAUSTED
        assert refused.failed.error.problem.status == 402
        assert not refused.failed.error.retryable
        assert refused.failed.error.retry_after_s is None
        assert len(world.first.attempts) == 1
        again = await world.ask(desk, output_tokens_max=400)
        assert again.text == "Good day"

    play(scene)


def test_whoever_waits_in_line_until_the_deadline_is_told_of_the_budget() -> None:
    """The meter answers, and has nothing: 402 for all, not 503 for all but one."""

    async def scene(world: World) -> None:
        meter = FakeMeter(world.clock, limit=0, is_final=False)
        desk = world.replica("one", money=money_of(world, meter))
        deadline = world.clock.now() + timedelta(seconds=4)
        calls = (
            world.ask(desk, completion_id=f"c{n}", deadline=deadline) for n in range(5)
        )
        told: list[Sink] = await asyncio.gather(*calls)
        assert {each.code for each in told} == {Code.BUDGET_EXHAUSTED}

    play(scene)


def test_an_answer_is_cut_to_what_is_left() -> None:
    """Some useful answer beats none; the vendor is told the limit."""

    async def scene(world: World) -> None:
        meter = FakeMeter(world.clock, limit=500)
        desk = world.replica("one", money=money_of(world, meter))
        world.first.scripts += [ANSWER]
        await world.ask(desk, output_tokens_max=4_000)
        sent = world.first.prepared[-1].output_tokens_max
        assert sent is not None
        assert 256 <= sent < 500
        ((_, reserved, _),) = await rows(world)
        assert reserved <= 500

    play(scene)


def test_without_the_meter_hard_budgets_wait_and_soft_ones_go_on() -> None:
    """What is not known to be free is not spent; what may be overshot is."""

    async def scene(world: World) -> None:
        meter = FakeMeter(world.clock, is_away=True)
        desk = world.replica("one", money=money_of(world, meter))
        unknown = await world.ask(desk)
        assert unknown.code is Code.UNAVAILABLE
        assert unknown.failed.error.retryable
        meter.is_away, meter.limit, meter.is_hard = False, 100_000, False
        await world.clock.sleep(3)
        world.first.scripts += [ANSWER] * 3
        await world.ask(desk, completion_id="c1")
        meter.is_away = True
        await world.clock.sleep(60)
        soft = await world.ask(desk, completion_id="c2")
        assert soft.text == "Good day"
        # A process that is started now knows it from the store.
        other = world.replica("two", money=money_of(world, meter, "two"))
        assert (await world.ask(other, completion_id="c3")).text == "Good day"
        assert [lease for lease, _, _ in await rows(world)][1:] == [None, None]

    play(scene)


def test_what_lies_idle_is_returned_when_it_is_wanted() -> None:
    """A recall brings the rest back, with what was spent and by how many calls."""

    async def scene(world: World) -> None:
        meter = FakeMeter(world.clock, limit=100_000)
        money = money_of(world, meter)
        desk = world.replica("one", money=money)
        world.first.scripts += [ANSWER, (5.0, *ANSWER)]
        await world.ask(desk, output_tokens_max=400)
        running = asyncio.create_task(
            world.ask(desk, completion_id="c2", output_tokens_max=400)
        )
        await world.clock.sleep(1)
        other = LeaseRecall(tenant="globex", scopes=(TENANT,))
        await money.returns.recall(other)
        assert meter.returned == []
        await money.returns.recall(LeaseRecall(tenant="acme", scopes=(TENANT,)))
        (told,) = meter.returned
        ((_, reserved, _),) = (await rows(world))[1:] or [("", 0, "")]
        assert told.spent_pico_usd == COST
        assert told.reserved_pico_usd == reserved > 0
        assert told.attempts is None
        returns = asyncio.create_task(money.returns.run())
        await running
        await world.clock.sleep(7)
        last = meter.returned[-1]
        assert (last.spent_pico_usd, last.reserved_pico_usd) == (2 * COST, 0)
        assert last.attempts == 2
        left = await world.database.read(lambda conn: conn.execute(select(SLICE)).all())
        assert left == []
        returns.cancel()

    play(scene)


def test_a_slice_that_was_returned_is_never_reserved_under() -> None:
    """Whoever closed it in the store wins: the attempt is not committed."""

    async def scene(world: World) -> None:
        meter = FakeMeter(world.clock, limit=100_000)
        desk = world.replica("one", money=money_of(world, meter))
        world.first.scripts += [ANSWER] * 2
        await world.ask(desk, output_tokens_max=400)
        await SqlSlices(world.database).close(meter.asked[0].lease_id)
        with pytest.raises(TransientFault, match="lease was returned"):
            await world.ask(desk, completion_id="c2", output_tokens_max=400)
        assert len(await rows(world)) == 1
        assert len(world.first.attempts) == 1

    play(scene)


def test_the_slices_of_a_dead_replica_are_returned_by_another() -> None:
    """Soon after their time, with what its last calls may have cost."""

    async def scene(world: World) -> None:
        meter = FakeMeter(world.clock, limit=100_000)
        dead = world.replica("dead", money=money_of(world, meter, "dead"))
        world.first.scripts += [(100.0, *ANSWER)]
        calling = asyncio.create_task(world.ask(dead, output_tokens_max=400))
        await world.clock.sleep(1)
        calling.cancel()
        alive = money_of(world, meter, "alive")
        returns = asyncio.create_task(alive.returns.run())
        await world.clock.sleep(50)
        assert meter.returned == []
        await world.clock.sleep(25)
        assert {each.lease_id for each in meter.returned} == {meter.asked[0].lease_id}
        assert meter.returned[-1].reserved_pico_usd > 400
        returns.cancel()

    play(scene)


def test_many_callers_share_one_question_to_the_meter() -> None:
    """A burst asks once for what it needs, not once each."""

    async def scene(world: World) -> None:
        meter = FakeMeter(world.clock, limit=10**9)
        desk = world.replica("one", money=money_of(world, meter))
        world.first.scripts += [ANSWER] * 50
        calls = (
            world.ask(desk, completion_id=f"c{n}", output_tokens_max=400)
            for n in range(50)
        )
        sinks: list[Sink] = await asyncio.gather(*calls)
        assert all(sink.text == "Good day" for sink in sinks)
        assert len(meter.asked) <= 5

    play(scene)
