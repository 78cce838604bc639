"""
Brokers and a meter without SQL and NATS: for storms of a hundred thousand calls.

Purse, pots, returns, sweep and telling are the broker's, leases, charges and metering
the meter's; only stores and wire are simple here. A message takes a moment, is lost,
or comes twice; a process dies at any commit or message and leaves its store behind.
``lease_worlds`` has the same with the real stores on the simulated NATS.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar, cast

from ai_broker.handlers import sweep_forever, tell_forever
from ai_broker.handlers.money import Money
from ai_broker.ports import Deps, Limits
from billing_meter import handlers
from billing_meter.app import open_shelf
from billing_meter.domain.leases import Terms
from billing_meter.ports import Deps as MeterDeps
from billing_meter.settings import HERE
from contracts.budgets import (
    ApplyBudget,
    Budget,
    BudgetView,
    LeaseRecall,
    LeaseReply,
    LeaseRequest,
    LeaseReturn,
)
from contracts.message import Message
from contracts.prices import GetPrices, PriceBook
from contracts.usage import UsageBatch
from determinism import Bell, SeededIds
from faults import Fault, TransientFault
from messaging.bus import Delivery
from testkit import lean_broker, lean_meter
from testkit.chance import Chance
from testkit.clock import SimulatedClock, SimulationLoop
from testkit.incarnation import GatedClock, Incarnation
from testkit.lease_worlds import Broker, Weather
from testkit.money_world import TENANT
from testkit.world import hash_of

T = TypeVar("T")

METER: Final = "billing-meter"
ANSWER_S: Final = 4.0
RELAY_S: Final = 0.2


class LeanWorld:
    """
    The world.

    Args:
        loop: Virtual time.
        seed: Decides everything.
        weather: How often what goes wrong, and who is told.
        terms: How long leases live; wrong ones must be found out.
    """

    def __init__(
        self,
        loop: SimulationLoop,
        seed: int,
        weather: Weather,
        terms: Terms | None = None,
    ) -> None:
        self.clock = SimulatedClock(loop)
        self.findings: list[str] = []
        self.crashes = 0
        self._loop = loop
        self._seed = seed
        self._chance = Chance(hash_of(seed, "lean"))
        self._weather = weather
        self._terms = terms or Terms()
        self._rates = dict(weather.crashes)
        self._meter_memory = lean_meter.MeterMemory()
        self._broker_memory = lean_broker.BrokerMemory()
        self._meter: tuple[Incarnation, MeterDeps] | None = None
        self._brokers: dict[int, tuple[Broker, Money]] = {}
        self._runs = 0
        self._is_over = False

    async def start(self) -> None:
        """Start every process."""
        self._start_meter()
        for number in range(self._weather.brokers):
            self._start_broker(number)
        await asyncio.sleep(1)

    def broker(self, number: int) -> Broker | None:
        """Return a broker, if it is up."""
        found = self._brokers.get(number)
        return None if found is None else found[0]

    def alive(self) -> list[str]:
        """Return the names of the brokers that are up."""
        return [broker.name for broker, _ in self._brokers.values()]

    async def apply(self, budget: Budget) -> BudgetView:
        """Put a budget on a scope of the tenant."""
        request = ApplyBudget(tenant=TENANT, budget=budget)
        return await self.ask(partial(handlers.apply_budget, request))

    async def borrow(self, request: LeaseRequest) -> LeaseReply:
        """Ask for a slice as somebody unknown."""
        return await self.ask(partial(handlers.lease, request))

    async def charges(self) -> dict[str, int]:
        """Return what each attempt was charged."""
        return dict(self._meter_memory.charged())

    async def charged(self) -> dict[str, int]:
        """Return what that makes for each scope."""
        return dict(self._meter_memory.by_scope())

    async def leases(self) -> dict[str, int]:
        """Return how leases ended."""
        made = [each for each in self._meter_memory.leases.values() if each.granted]
        lapsed = sum(each.told_attempts is None for each in made)
        return {"slices lapsed": lapsed, "slices returned": len(made) - lapsed}

    def calm(self) -> None:
        """Let nothing crash any more."""
        self._rates = {}
        for broker, _ in self._brokers.values():
            broker.incarnation.calm()
        if self._meter is not None:
            self._meter[0].calm()

    def stop_brokers(self) -> None:
        """End all brokers for good."""
        self._is_over = True
        for broker, _ in list(self._brokers.values()):
            broker.incarnation.crash("stopped")

    async def ask(self, handler: Callable[[MeterDeps], Awaitable[T]]) -> T:
        """
        Ask the meter over a wire that may lose either message.

        Raises:
            TransientFault: It is down, or no answer came.
        """
        await self._hop()
        if self._meter is None:
            raise TransientFault("ask billing-meter: nobody listens")
        incarnation, deps = self._meter
        answer: asyncio.Future[T] = self._loop.create_future()

        async def answered() -> None:
            result = await handler(deps)
            await incarnation.point("answer")
            if not answer.done():
                answer.set_result(result)

        if not self._is_lost():
            incarnation.start(self._owned(incarnation, answered()))
        try:
            async with asyncio.timeout(ANSWER_S):
                result = await answer
                await self._hop()
                if self._is_lost():
                    await self._loop.create_future()
                return result
        except TimeoutError as cause:
            raise TransientFault("ask billing-meter: no answer") from cause

    async def announce(self, subject: str, message: Message) -> None:
        """Ring for idle slices at every broker."""
        del subject
        assert isinstance(message, LeaseRecall)
        for broker, money in list(self._brokers.values()):
            if not self._is_lost():
                recall = self._later(money.returns.recall(message))
                broker.incarnation.start(self._owned(broker.incarnation, recall))

    async def _later(self, doing: Awaitable[None]) -> None:
        await self._hop()
        await doing

    async def _hop(self) -> None:
        await asyncio.sleep(0.02 * self._chance.draw("hop"))

    def _is_lost(self) -> bool:
        return self._chance.happens(self._weather.lost, "lost")

    def _start_meter(self) -> None:
        self._runs += 1
        incarnation = self._incarnation(METER, f"{METER}-r{self._runs}", self._no_meter)
        store = lean_meter.MemoryStore(
            self._meter_memory, incarnation, self._weather.look
        )
        deps = MeterDeps(
            store=store,
            clock=GatedClock(self.clock, incarnation),
            shelf=open_shelf(HERE / "prices.yaml"),
            bells=self,
            changes=Bell(),
            terms=self._terms,
        )
        self._meter = (incarnation, deps)

    def _no_meter(self) -> None:
        self._meter = None
        self._again(self._start_meter)

    def _start_broker(self, number: int) -> None:
        self._runs += 1
        name = f"ai-broker-{number}-r{self._runs}"
        gone = partial(self._no_broker, number)
        incarnation = self._incarnation("ai-broker", name, gone)
        clock = GatedClock(self.clock, incarnation)
        ids = SeededIds(hash_of(self._seed, name))
        slices = lean_broker.MemorySlices(self._broker_memory, incarnation)
        money = Money(_Meter(self), slices, clock, ids, name)
        settled = Bell()
        store = lean_broker.MemoryStore(
            self._broker_memory, incarnation, settled, money.committed
        )
        # The handlers that a storm runs use these of the broker's many ports.
        deps = cast("Deps", _Deps(store, clock, ids, settled, money.tariff))
        self._brokers[number] = (Broker(name, incarnation, money.purse, deps), money)
        for loop in (
            *money.loops,
            partial(tell_forever, deps),
            partial(sweep_forever, deps),
            partial(self._relay_forever, clock),
        ):
            incarnation.start(self._owned(incarnation, loop()))

    def _no_broker(self, number: int) -> None:
        del self._brokers[number]
        if not self._is_over:
            self._again(partial(self._start_broker, number))

    async def _relay_forever(self, clock: GatedClock) -> None:
        """Bring records to the meter, at least once and in any order."""
        outbox = self._broker_memory.outbox
        while True:
            await clock.sleep(RELAY_S)
            for message_id, owed in list(outbox.items()):
                assert isinstance(owed.message, UsageBatch)
                delivery = Delivery("work.billing-meter.usage", message_id, TENANT)
                try:
                    meter = partial(handlers.meter_usage, owed.message, delivery)
                    await self.ask(meter)
                except Fault:
                    break
                if not self._chance.happens(self._weather.lost, "again"):
                    outbox.pop(message_id, None)

    def _incarnation(
        self, service: str, name: str, gone: Callable[[], None]
    ) -> Incarnation:
        def crashed(_where: str) -> None:
            self.crashes += not self._is_over
            self._weather.crashed(name)
            gone()

        rate = self._rates.get(service, 0.0)
        return Incarnation(name, self._chance, crashes=rate, on_crash=crashed)

    def _again(self, start: Callable[[], None]) -> None:
        # In nobody's name: whoever crashed runs nothing any more.
        self._loop.call_later(1.0, start, context=contextvars.Context())

    async def _owned(self, incarnation: Incarnation, doing: Awaitable[None]) -> None:
        try:
            await doing
        except Fault:
            return
        # Supervised boundary: a bug is a finding.
        except Exception as error:  # noqa: BLE001
            self.findings.append(f"{incarnation.name} died of a bug: {error!r}")
            incarnation.crash("bug")


class _Meter:
    """The meter as a broker asks it."""

    def __init__(self, world: LeanWorld) -> None:
        self._world = world

    async def lease(self, request: LeaseRequest) -> LeaseReply:
        return await self._world.ask(partial(handlers.lease, request))

    async def give_back(self, message: LeaseReturn) -> None:
        await self._world.ask(partial(handlers.return_lease, message))

    async def prices(self) -> PriceBook:
        return await self._world.ask(partial(handlers.prices, GetPrices()))


class _Deps:
    """What books, sweep and telling use of the broker's ports."""

    def __init__(
        self,
        store: lean_broker.MemoryStore,
        clock: GatedClock,
        ids: SeededIds,
        settled: Bell,
        prices: object,
    ) -> None:
        self.store = store
        self.clock = clock
        self.ids = ids
        self.settled = settled
        self.prices = prices
        self.limits = Limits(gather_s=0.2)
