"""
Brokers and a meter alone, under one seed, and what they spend of a budget.

The vendor is the oracle: it knows what it charged, call by call. The callers ask as
agents do, through NATS; processes can be crashed, and are started again.
"""

import asyncio
import contextvars
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.vendor import (
    Done,
    Prepared,
    Started,
    Text,
    UsageSeen,
    VendorEvent,
)
from contracts.budgets import (
    ApplyBudget,
    Budget,
    BudgetPage,
    BudgetView,
    ListBudgets,
)
from contracts.completions import (
    ChatTurn,
    CompletionRequest,
    FinishReason,
    Role,
    TextPart,
)
from contracts.frames import Failed, Finished
from contracts.message import JsonObject
from contracts.subjects import BUDGET_APPLY, BUDGET_LIST, Service
from contracts.usage import TokenUsage
from determinism import SeededIds
from faults import Fault
from messaging.limits import BusLimits
from persistence.inline import InlineDatabase, Moment
from testkit.chance import Chance
from testkit.clock import SimulatedClock, SimulationLoop
from testkit.incarnation import GatedBus, GatedClock, GatedDatabase, Incarnation
from testkit.parts import FIVE, Part, Process
from testkit.simulated_bus import SimulatedBus, add_work_streams
from testkit.simulated_nats import SimulatedNats
from testkit.simulated_wire import CALM, Faults
from testkit.world import hash_of

TENANT: Final = "acme"
VENDOR: Final = "sandbox-openai"
MODEL: Final = "sandbox-small"
LIMITS: Final = BusLimits(publish_s=1.0)
OUTPUT_PICO_USD: Final = 600_000
"""Of one token of the model's answer; its input costs a quarter of that."""
INPUT_PICO_USD: Final = 150_000

End = Finished | Failed | None


@dataclass
class CountingVendor:
    """
    Answers what it is asked, and counts what that cost.

    Args:
        chance: Decides how long an answer takes and becomes.
    """

    chance: Chance
    think_s: float = 2.0
    output_tokens: int | None = None
    """Every answer's length; None draws one within its limit."""
    charged: dict[str, TokenUsage] = field(default_factory=dict[str, TokenUsage])
    limits: dict[str, int | None] = field(default_factory=dict[str, int | None])
    under_way: int = 0
    under_way_max: int = 0

    def prepare(self, request: CompletionRequest, candidate: Candidate) -> Prepared:
        """Return what of the request costs something."""
        text = "".join(
            part.text
            for turn in request.turns
            for part in turn.parts
            if isinstance(part, TextPart)
        )
        body: JsonObject = {
            "input": len(text.encode()) // 2,
            "max": request.output_tokens_max,
            "model": candidate.model,
        }
        return Prepared(body)

    async def complete(
        self, body: JsonObject, attempt_id: str, timeout_s: float
    ) -> AsyncGenerator[VendorEvent]:
        """Answer once; what it will cost is owed from the beginning."""
        del timeout_s
        limit = None if body["max"] is None else int(str(body["max"]))
        share = self.chance.draw("length", attempt_id)
        length = (
            int(share * (limit or 1_000))
            if self.output_tokens is None
            else (min(self.output_tokens, limit or self.output_tokens))
        )
        usage = TokenUsage(input_tokens=int(str(body["input"])), output_tokens=length)
        self.charged[attempt_id] = usage
        self.limits[attempt_id] = limit
        self.under_way += 1
        self.under_way_max = max(self.under_way_max, self.under_way)
        try:
            await asyncio.sleep(self.think_s * self.chance.draw("think", attempt_id))
            yield Started(200, f"request-{attempt_id}")
            yield Text(0, "word")
            yield UsageSeen(usage, {"output": length}, final=True)
            yield Done(FinishReason.STOP, str(body["model"]))
        finally:
            self.under_way -= 1

    async def close(self) -> None:
        """Nothing is open."""

    @property
    def pico_usd(self) -> int:
        """What all calls cost together."""
        return sum(
            each.input_tokens * INPUT_PICO_USD + each.output_tokens * OUTPUT_PICO_USD
            for each in self.charged.values()
        )


async def _unwatched(_moment: Moment) -> None:
    """Look at nothing."""


@dataclass(frozen=True)
class Run:
    """One run of a replica: its process and what it was wired into."""

    process: Process
    # Any: each service's own Composed.
    composed: Any


class MoneyWorld:
    """
    Some brokers and meters.

    Args:
        loop: Virtual time.
        seed: Decides everything.
        brokers: How many replicas of ai-broker.
        faults: What the wire does to messages.
        crashes: How likely each place to crash is to be a service's last.
        watch: Awaited around every transaction of the meter.
    """

    def __init__(
        self,
        loop: SimulationLoop,
        seed: int,
        *,
        brokers: int = 2,
        faults: Faults = CALM,
        crashes: Mapping[Service, float] = MappingProxyType({}),
        watch: Callable[[Moment], Awaitable[None]] = _unwatched,
    ) -> None:
        self.loop = loop
        self.clock = SimulatedClock(loop)
        self.chance = Chance(seed)
        self.nats = SimulatedNats(loop, seed, faults=faults, ack_wait_s=15)
        self.vendor = CountingVendor(Chance(hash_of(seed, "vendor")))
        self.findings: list[str] = []
        self.crashes = 0
        self._seed = seed
        self._parts = {part.service: part for part in FIVE}
        self._replicas = {Service.BILLING_METER: 1, Service.AI_BROKER: brokers}
        self._chance_of_crash = dict(crashes)
        self.stores: Final = {
            service: InlineDatabase.create(
                self._parts[service].metadata,
                around=watch if service is Service.BILLING_METER else _unwatched,
            )
            for service in self._replicas
        }
        self.alive: Final[dict[str, Run]] = {}
        """What runs now, by service and number: ``ai-broker-3``."""
        self.on_crash: Callable[[str], None] = lambda _instance: None
        self._runs: Counter[str] = Counter()
        self._stopped: set[Service] = set()
        self._asker = self.bus(Service.AGENT_RUNTIME, "asker", lambda: True)
        self._manager = self.bus(Service.GATEWAY, "manager", lambda: True)

    async def start(self) -> None:
        """Start every process."""
        add_work_streams(self.nats)
        for service, count in self._replicas.items():
            for replica in range(count):
                self._start(self._parts[service], replica)
        await self._asker.connect()
        await self._manager.connect()
        await asyncio.sleep(1)

    async def apply(self, budget: Budget) -> BudgetView:
        """Put a budget on a scope of the tenant."""
        request = ApplyBudget(tenant=TENANT, budget=budget)
        return await self._manager.request(
            BUDGET_APPLY.to(TENANT), request, BudgetView, timeout_s=5
        )

    async def budgets(self) -> tuple[BudgetView, ...]:
        """Return what the meter says of the tenant's budgets."""
        request = ListBudgets(tenant=TENANT, limit=200)
        page = await self._manager.request(
            BUDGET_LIST.to(TENANT), request, BudgetPage, timeout_s=5
        )
        return page.budgets

    async def call(
        self, completion_id: str, *, within_s: float = 60.0, **changes: object
    ) -> End:
        """Ask for a completion once; None when the connection to it broke."""
        asked: dict[str, object] = {
            "completion_id": completion_id,
            "tenant": TENANT,
            "model": f"{VENDOR}/{MODEL}",
            "turns": (ChatTurn(role=Role.USER, parts=(TextPart(text="Tell me!"),)),),
            "deadline": self.clock.now() + timedelta(seconds=within_s),
        }
        request = CompletionRequest.model_validate(asked | changes)
        end: End = None
        try:
            async with self._asker.complete(request) as frames:
                async for frame in frames:
                    if isinstance(frame, Finished | Failed):
                        end = frame
        except Fault:
            return None
        return end

    def crash(self, service: Service, replica: int) -> None:
        """End a process as kill -9 does; it is started again in a moment."""
        if (running := self.alive.get(f"{service}-{replica}")) is not None:
            running.process.incarnation.crash("asked for")

    def stop(self, service: Service) -> None:
        """End all replicas of a service for good."""
        self._stopped.add(service)
        for replica in range(self._replicas[service]):
            self.crash(service, replica)

    def calm(self) -> None:
        """Let nothing crash by itself any more."""
        self._chance_of_crash = {}
        for each in self.alive.values():
            each.process.incarnation.calm()

    async def until_returned(self, limit_s: float) -> tuple[BudgetView, ...]:
        """Return the budgets once nothing is held of them."""
        async with asyncio.timeout(limit_s):
            while True:
                found = await self.budgets()
                if not any(each.held_pico_usd for each in found):
                    return found
                await asyncio.sleep(1)

    def bus(
        self, service: Service, instance: str, is_alive: Callable[[], bool]
    ) -> SimulatedBus:
        """Return a line to NATS that is not connected yet."""
        return SimulatedBus(
            self.nats,
            service,
            instance=instance,
            clock=self.clock,
            ids=SeededIds(hash_of(self._seed, instance)),
            limits=LIMITS,
            is_alive=is_alive,
        )

    def _start(self, part: Part, replica: int) -> None:
        name = f"{part.service}-{replica}"
        self._runs[name] += 1
        instance = f"{name}-r{self._runs[name]}"
        incarnation = Incarnation(
            instance,
            self.chance,
            crashes=self._chance_of_crash.get(part.service, 0.0),
            on_crash=partial(self._crashed, part, replica),
        )
        bus = self.bus(part.service, instance, lambda: incarnation.is_alive)
        process = Process(
            part,
            incarnation,
            GatedDatabase(self.stores[part.service], incarnation),
            bus,
            GatedBus(bus, incarnation),
            GatedClock(self.clock, incarnation),
            SeededIds(hash_of(self._seed + 1, instance)),
        )
        # Any: each service's own Composed.
        composed: Any = process.compose(vendors={VENDOR: self.vendor})
        self.alive[name] = Run(process, composed)
        incarnation.start(self._live(process, composed))

    # Any: each service's own Composed.
    async def _live(self, process: Process, composed: Any) -> None:
        try:
            await process.live(composed.runnable)
        except* Fault as faults:
            process.incarnation.crash(f"ended: {faults.exceptions[0]!r}")
        # Supervised boundary: a bug ends the process, and is a finding.
        except* Exception as errors:  # noqa: BLE001
            name = process.incarnation.name
            self.findings.append(f"{name} died of a bug: {errors.exceptions[0]!r}")
            process.incarnation.crash("bug")

    def _crashed(self, part: Part, replica: int, _where: str) -> None:
        if part.service not in self._stopped:
            self.crashes += 1
        crashed = self.alive.pop(f"{part.service}-{replica}", None)
        if crashed is not None:
            self.on_crash(crashed.process.incarnation.name)
        if part.service in self._stopped:
            return
        # In nobody's name: whoever crashed runs nothing any more.
        self.loop.call_later(
            1.0, self._start, part, replica, context=contextvars.Context()
        )
