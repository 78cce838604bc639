"""
A storm on budgets: eight brokers, twenty limits, crashes and slices that run out.

Under one seed and in virtual time. Calls begin at the broker's purse, as its dispatch
does: money is taken, reserved in the attempt's commit, settled after the answer.
Processes die at any await, messages are lost and doubled, limits are raised a little
at a time so that there is never quite enough, calls outlive their slices, and some
who were lent a slice are never heard of again. ``lease_oracle`` says what must hold.

The world is one of two: ``SqlWorld``, the services composed as in production on real
stores and the simulated NATS, or ``LeanWorld``, the same purse, leases and metering on
stores in memory, which is twenty times as fast.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import log
from typing import Final

from ai_broker.domain import attempt as attempts
from ai_broker.domain import estimation, quote
from ai_broker.domain.attempt import Attempt, Settlement
from ai_broker.domain.budget import scopes_of
from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.completion import Held, State
from ai_broker.handlers import books, funding
from ai_broker.handlers.pot import Denied, Funds
from ai_broker.ports.store import Work
from contracts.budgets import (
    Budget,
    BudgetPeriod,
    BudgetScope,
    LeaseRequest,
    ScopeKind,
)
from contracts.completions import ChatTurn, CompletionRequest, Role, TextPart
from contracts.money import usd
from contracts.problems import Code
from contracts.usage import EndState, TokenUsage, UsageRecord, UsageSource
from faults import Fault, TransientFault
from messaging.refusals import Refused
from telemetry.logs import silence
from testkit.chance import Chance
from testkit.clock import SimulationLoop, run_simulation
from testkit.lease_oracle import Books, Ghost, Oracle, Scope, Seen
from testkit.lease_worlds import (
    FIELDS,
    GHOST,
    IDS,
    SCOPES,
    Broker,
    StormWorld,
    Weather,
)
from testkit.money_world import (
    INPUT_PICO_USD,
    MODEL,
    OUTPUT_PICO_USD,
    TENANT,
    VENDOR,
)
from testkit.world import hash_of

BROKERS: Final = 8
CALLERS: Final = 16
CANDIDATE: Final = Candidate(VENDOR, MODEL)
LOST: Final = 0.0005
CRASHES: Final = {"ai-broker": 0.0006, "billing-meter": 0.00003}
"""Of each place to crash; a call passes dozens."""
CALLS_PER_S: Final = 60.0
CALL_PICO_USD: Final = 350 * OUTPUT_PICO_USD
"""What a call costs, more or less."""
RAISE_S: Final = 20.0
RAISED: Final = 0.6
GENEROSITY: Final = 1.25
"""What limits are raised by, of what is asked for."""
TAIL: Final = timedelta(seconds=1_920)
"""How long the meter holds a slice that nobody returns, after its end."""
LENT: Final = timedelta(seconds=31)
CORRECTED_S: Final = 15.0
SETTLED_S: Final = 400.0
TRIES_MAX: Final = 5
UNDER_WAY_MAX: Final = 400
LIMIT_S: Final = 200_000.0


Make = Callable[[SimulationLoop, int, Weather], StormWorld]
"""Makes a world."""


@dataclass(frozen=True, slots=True)
class Told:
    """What came of one storm."""

    seed: int
    findings: tuple[str, ...]
    counts: Counter[str]
    virtual_s: float


@dataclass
class LeaseStorm:
    """One storm: run it once."""

    loop: SimulationLoop
    seed: int
    reservations: int
    make: Make
    counts: Counter[str] = field(default_factory=Counter[str])
    oracle: Oracle = field(default_factory=Oracle)

    def __post_init__(self) -> None:
        self.chance = Chance(hash_of(self.seed, "storm"))
        self.callers = [self._caller() for _ in range(CALLERS)]
        weather = Weather(BROKERS, CRASHES, LOST, self._look, self._crashed)
        self.world: StormWorld = self.make(self.loop, self.seed, weather)

    async def run(self) -> None:
        """Storm until so many calls were reserved for, then see what is left."""
        await self.world.start()
        for scope in SCOPES:
            while _name(scope) not in self.oracle.books.limits:
                await self._raise(scope, 1.0)
        async with asyncio.TaskGroup() as group:
            loops = [
                group.create_task(each)
                for each in (self._raise_forever(), self._haunt_forever())
            ]
            await self._call_until_enough()
            for each in loops:
                each.cancel()
        self.world.calm()
        await self._until_settled()
        await self._compare()
        self.oracle.findings += self.world.findings
        self.counts["crashes"] = self.world.crashes
        self.counts["commits of the meter"] = self.oracle.looks

    def _caller(self) -> dict[str, str]:
        """Return what one caller's calls count against, beside the tenant."""
        return {
            name: IDS[kind][self.chance.pick(len(IDS[kind]), f"which {name}")]
            for name, (kind, often) in FIELDS.items()
            if self.chance.happens(often, name)
        }

    def _request(self, number: int, caller: Mapping[str, str]) -> CompletionRequest:
        patience = timedelta(seconds=3 + number % 18)
        return CompletionRequest.model_validate(
            {
                **caller,
                "completion_id": f"call-{number}",
                "tenant": TENANT,
                "model": f"{VENDOR}/{MODEL}",
                "turns": (ChatTurn(role=Role.USER, parts=(TextPart(text="Tell!"),)),),
                "deadline": self.world.clock.now() + patience,
                "output_tokens_max": 200 + self.chance.pick(1_000, "length"),
            }
        )

    async def _call_until_enough(self) -> None:
        number = 0
        while self.counts["reservations"] < self.reservations:
            number += 1
            await asyncio.sleep(-log(1 - self.chance.draw("pause")) / CALLS_PER_S)
            caller = self.chance.pick(CALLERS, "caller")
            # Each caller comes to two of the brokers, as connections that are kept do.
            number_of = (caller + 3 * self.chance.pick(2, "broker")) % BROKERS
            run = self.world.broker(number_of)
            if run is not None and len(self.oracle.calls) < UNDER_WAY_MAX:
                request = self._request(number, self.callers[caller])
                run.incarnation.start(self._call(run, request))

    async def _call(self, broker: Broker, request: CompletionRequest) -> None:
        """Ask for money and make the call, as the broker's dispatch does."""
        asked_at = self.world.clock.now()
        self.counts["calls"] += 1
        for _ in range(TRIES_MAX):
            attempt_id = broker.deps.ids.new("attempt")
            funds = broker.purse.take(attempt_id, request, CANDIDATE)
            if funds is None:
                self.counts["calls that asked or waited for money"] += 1
                given = (attempt_id, request, CANDIDATE, request.deadline)
                funds = await broker.purse.fund(*given)
            if isinstance(funds, Denied):
                self._denied(funds, request, asked_at)
                return
            try:
                opened = await self._open(broker, attempt_id, funds)
            except TransientFault:
                self.counts["slices returned before the commit"] += 1
                self.oracle.undone(attempt_id)
                continue
            self.counts["reservations"] += funds.reservation is not None
            self.counts["answers cut to the money"] += funds.request != request
            await self._answer(broker, opened, funds)
            return

    async def _open(self, broker: Broker, attempt_id: str, funds: Funds) -> Attempt:
        """Reserve in the attempt's commit; from then on the vendor may charge."""
        now, request = self.world.clock.now(), funds.request
        money = funds.reservation
        reserved = 0 if money is None else money.pico_usd
        seen = Seen(broker.name, _names(request), reserved, self._cost(request))
        record = attempts.dispatch(
            request,
            CANDIDATE,
            attempt_id=attempt_id,
            number=1,
            assumed=estimation.unheard(request),
            now=now,
            lease_id=None if money is None else money.lease_id,
        )
        deadline = now + timedelta(seconds=60)
        opened = Attempt(record, 1, deadline, reserved_pico_usd=reserved)

        def transaction(work: Work) -> None:
            books.open_attempt(work, opened)
            work.add_completion(_held(request, broker.name, now))

        with funding.held(broker.purse, attempt_id, funds) as taken:
            self.oracle.opening(attempt_id, seen)
            await broker.deps.store.run(transaction)
            taken.keep()
        self.oracle.began(attempt_id)
        return opened

    def _cost(self, request: CompletionRequest) -> int:
        """Return what the vendor will charge: anything within the answer's limit."""
        length = int(self.chance.draw("answer") * (request.output_tokens_max or 0))
        inputs = estimation.input_tokens(request)
        return inputs * INPUT_PICO_USD + length * OUTPUT_PICO_USD

    async def _answer(self, broker: Broker, opened: Attempt, funds: Funds) -> None:
        attempt_id = opened.record.attempt_id
        cost = self.oracle.calls[attempt_id].cost
        await asyncio.sleep(self._think_s())
        self.oracle.answered(attempt_id)
        inputs = estimation.input_tokens(funds.request)
        output = (cost - inputs * INPUT_PICO_USD) // OUTPUT_PICO_USD
        settled = Settlement(
            TokenUsage(input_tokens=inputs, output_tokens=output),
            UsageSource.VENDOR,
            EndState.COMPLETED,
            http_status=200,
        )
        now = self.world.clock.now()
        await books.commit(
            broker.deps, lambda work: books.close_attempt(work, opened, settled, now)
        )
        self.oracle.ended(attempt_id)

    def _think_s(self) -> float:
        kind, draw = self.chance.draw("kind"), self.chance.draw("think")
        if kind < 0.01:
            self.counts["calls that outlive their slice"] += 1
            return 62 + 90 * draw
        return 3 + 17 * draw if kind < 0.1 else 0.2 + 2.8 * draw

    def _denied(
        self,
        denied: Denied,
        request: CompletionRequest,
        asked_at: datetime,
    ) -> None:
        self.counts[f"refused: {denied.code.value}"] += 1
        if denied.code is Code.BUDGET_EXHAUSTED:
            now = self.world.clock.now()
            least = quote.bounded(request, CANDIDATE, _list_price, now).least
            waited = None if now < request.deadline else now - asked_at
            self.oracle.refused(_names(request), least, waited, now)

    def _crashed(self, instance: str) -> None:
        calls = self.oracle.calls.values()
        cut = sum(each.instance == instance for each in calls)
        self.counts["calls cut by a crash"] += cut
        self.oracle.crashed(instance)

    async def _raise_forever(self) -> None:
        while True:
            await asyncio.sleep(RAISE_S)
            for scope in SCOPES:
                if self.chance.happens(RAISED, "raise", scope.id):
                    draw = self.chance.draw("by", scope.id)
                    await self._raise(scope, draw * 2 * GENEROSITY / RAISED)

    async def _raise(self, scope: BudgetScope, share: float) -> None:
        """Raise a limit by a share of what is asked for between two raises."""
        of_it = scope.kind is ScopeKind.TENANT
        among = sum(of_it or scope.id in each.values() for each in self.callers)
        calls = share * CALLS_PER_S * RAISE_S * among / CALLERS
        before = self.oracle.books.limits.get(_name(scope), 0)
        limit = usd(before + int(calls * CALL_PICO_USD))
        budget = Budget(scope=scope, period=BudgetPeriod.LIFETIME, limit_usd=limit)
        try:
            await self.world.apply(budget)
        except (Fault, Refused):
            # It was heard or not; the oracle reads limits from the store.
            self.counts["raises without an answer"] += 1

    async def _haunt_forever(self) -> None:
        """Now and then somebody takes a slice and is never heard of again."""
        number = 0
        while True:
            number += 1
            await asyncio.sleep(5 + 20 * self.chance.draw("ghost"))
            request = self._request(number, self.callers[number % CALLERS])
            asked = LeaseRequest(
                lease_id=f"lease_ghost_{number}",
                tenant=TENANT,
                instance=GHOST,
                scopes=scopes_of(request),
                pico_usd_min=OUTPUT_PICO_USD,
                pico_usd_wanted=100 * OUTPUT_PICO_USD,
                deadline=self.world.clock.now(),
            )
            try:
                reply = await self.world.borrow(asked)
            except (Fault, Refused):
                continue
            if (grant := reply.grant) is not None:
                self.counts["slices of the lost"] += 1
                ends_at = grant.expires_at + TAIL
                self.oracle.haunt(Ghost(_names(request), grant.pico_usd, ends_at))

    async def _until_settled(self) -> None:
        """Wait until only the lost hold something, then until they do not either."""
        began_s = self.loop.time()
        while self.oracle.calls or self._held_by_the_living():
            if self.loop.time() > began_s + SETTLED_S:
                held = self._held_by_the_living()
                self.oracle.find(f"{held} still held after {SETTLED_S:g} s of calm")
                break
            await asyncio.sleep(1)
        # A lease does not wait for corrections of what it has on the ledger.
        await asyncio.sleep(CORRECTED_S)
        self.world.stop_brokers()
        await asyncio.sleep((LENT + TAIL).total_seconds())
        # Whoever changes a limit closes what has ended.
        for scope in SCOPES:
            await self._raise(scope, 0.0)

    def _held_by_the_living(self) -> int:
        held = self.oracle.books.held_by.items()
        return sum(amount for (_, who), amount in held if who != GHOST)

    async def _compare(self) -> None:
        """Hold the books in the end against what the calls have cost."""
        charges = await self.world.charges()
        self.oracle.compare(charges, await self.world.charged())
        heard = self.oracle.costs.keys()
        self.counts["ends that nobody heard"] = len(charges.keys() - heard)
        self.counts.update(await self.world.leases())

    def _look(self, books: Books) -> None:
        self.oracle.look(books, self.world.alive(), self.world.clock.now())


def storm(seed: int, reservations: int, make: Make) -> Told:
    """Run one storm in a world to its end."""
    silence()
    storms: list[LeaseStorm] = []

    async def main(loop: SimulationLoop) -> None:
        storms.append(LeaseStorm(loop, seed, reservations, make))
        await storms[0].run()

    run_simulation(main, limit_s=LIMIT_S)
    (told,) = storms
    return Told(seed, tuple(told.oracle.findings), told.counts, told.loop.time())


def _list_price(record: UsageRecord) -> int:
    usage = record.usage
    outputs = usage.output_tokens + usage.reasoning_tokens
    return usage.input_tokens * INPUT_PICO_USD + outputs * OUTPUT_PICO_USD


def _name(scope: BudgetScope) -> Scope:
    return f"{scope.kind}:{scope.id}"


def _names(request: CompletionRequest) -> tuple[Scope, ...]:
    return tuple(map(_name, scopes_of(request)))


def _held(request: CompletionRequest, owner: str, now: datetime) -> Held:
    return Held(
        tenant=TENANT,
        completion_id=request.completion_id,
        digest="",
        state=State.RUNNING,
        owner=owner,
        fence=1,
        until=now,
        created_at=now,
    )
