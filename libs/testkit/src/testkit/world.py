"""
All five services in one loop under one seed, with storms, crashes and a calm end.

The storm: messages are lost, doubled and reordered, NATS stops, starts and is
wiped, processes crash between any two of their callbacks and at every port, and
are started again; the vendor fails. Then it calms, and everything accepted must
come to its end. ``checks`` tells what was broken.
"""

import asyncio
import contextvars
import hashlib
import json
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeVar

from sqlalchemy import text

from contracts.employees import ApplyEmployee, Employee, EmployeeVersion
from contracts.events import ApplyTrigger, Trigger, TriggerTask, TriggerVersion
from contracts.message import Message
from contracts.subjects import (
    EMPLOYEE_APPLY,
    TASK_LIST,
    TRIGGER_APPLY,
    Address,
    Service,
)
from contracts.tasks import ListTasks, TaskPage
from determinism import SeededIds
from faults import Fault
from gateway.domain.admission import TaskRequest
from gateway.domain.keys import Principal, Role
from gateway.handlers.tasks import cancel_task, submit_task
from messaging.limits import BusLimits
from messaging.refusals import Refused
from messaging.subscriptions import Runnable
from persistence.inline import InlineDatabase
from testkit.chance import Chance
from testkit.clock import SimulatedClock, SimulationLoop
from testkit.incarnation import GatedBus, GatedClock, GatedDatabase, Incarnation
from testkit.parts import FIVE, Part, Process
from testkit.plan import Accepted, Plan, Trace
from testkit.scripted_vendor import ScriptedVendor
from testkit.simulated_bus import SimulatedBus, add_events_stream, add_work_streams
from testkit.simulated_nats import SimulatedNats
from testkit.simulated_wire import CALM

M = TypeVar("M", bound=Message)
T = TypeVar("T")

TENANT: Final = "acme"
EMPLOYEE: Final = "clerk"
LIMITS: Final = BusLimits(publish_s=1.0)
LOOK_S: Final = 0.5
TASKS_MAX: Final = 200
SKEW_S_MAX: Final = 0.2
DISPATCHED_AGAIN: Final = "a completion with a stored answer was dispatched again: "


class World:
    """One simulated platform."""

    def __init__(self, loop: SimulationLoop, seed: int, plan: Plan) -> None:
        self.plan = plan
        self.loop = loop
        self.trace = Trace(loop)
        self.chance = Chance(seed)
        self.clock = SimulatedClock(loop)
        self.ids = SeededIds(seed)
        self.nats = SimulatedNats(
            loop, seed, faults=plan.faults, ack_wait_s=15, record=self.trace
        )
        self.stores = {
            part.service: InlineDatabase.create(part.metadata) for part in FIVE
        }
        self.vendors = {
            name: ScriptedVendor(
                Chance(hash_of(seed, name)), plan.vendor_failing, self._dispatched
            )
            for name in ("sandbox-openai", "sandbox-anthropic")
        }
        self.accepted = Accepted()
        self.findings: list[str] = []
        self.crashes = 0
        self._runs: dict[str, int] = {}
        # Any: each service's own Composed.
        self._alive: dict[str, tuple[Process, Any]] = {}
        self._is_stormy = True
        self._observer = self._bus_of(Service.GATEWAY, "observer", lambda: True)

    async def run(self) -> None:
        """Build, storm, calm; ``findings`` has what went wrong on the way."""
        add_work_streams(self.nats)
        add_events_stream(self.nats, TENANT)
        await self._observer.connect()
        for part in FIVE:
            for replica in range(self.plan.replicas):
                self._start(part, replica)
        await self._prepare()
        async with asyncio.TaskGroup() as group:
            for number in range(self.plan.tasks):
                group.create_task(self._submit(number))
            for number in range(self.plan.events):
                group.create_task(self._publish_event(number))
            group.create_task(self._trouble())
            await asyncio.sleep(self.plan.storm_s)
            self._calm()
        await self._until_ended()
        await self._until_settled()

    async def ask(self, address: Address, request: Message, reply: type[M]) -> M:
        """Ask a service, as often as it takes."""
        while True:
            try:
                return await self._observer.request(
                    address, request, reply, timeout_s=5
                )
            except Fault:
                await asyncio.sleep(LOOK_S)

    # -- processes --

    def _bus_of(
        self, service: Service, instance: str, is_alive: Callable[[], bool]
    ) -> SimulatedBus:
        return SimulatedBus(
            self.nats,
            service,
            instance=instance,
            clock=self.clock,
            ids=SeededIds(hash_of(0, instance)),
            limits=LIMITS,
            is_alive=is_alive,
        )

    def _start(self, part: Part, replica: int) -> None:
        name = f"{part.service}-{replica}"
        run = self._runs[name] = self._runs.get(name, 0) + 1
        instance = f"{name}-r{run}"
        steps = int(self.plan.steps_mean * 2 * self.chance.draw("life", instance))
        incarnation = Incarnation(
            instance,
            self.chance,
            crash_after_steps=max(steps, 50) if self._is_stormy else None,
            crashes=self.plan.crashes if self._is_stormy else 0.0,
            on_crash=partial(self._crashed, part, replica),
            record=self.trace,
        )
        bus = self._bus_of(part.service, instance, lambda: incarnation.is_alive)
        skew = SKEW_S_MAX * (2 * self.chance.draw("skew", name) - 1)
        clock = SimulatedClock(self.loop, timedelta(seconds=skew))
        process = Process(
            part,
            incarnation,
            GatedDatabase(self.stores[part.service], incarnation),
            bus,
            GatedBus(bus, incarnation),
            GatedClock(clock, incarnation),
            SeededIds(hash_of(1, instance)),
        )
        incarnation.store = (process.database, part.shared, clock.now)
        composed = process.compose(vendors=self.vendors)
        self._alive[name] = (process, composed)
        runnable: Runnable = composed.runnable
        incarnation.start(self._live(process, runnable))

    async def _live(self, process: Process, runnable: Runnable) -> None:
        try:
            await process.live(runnable)
        except* Fault as faults:
            # As in production: the process ends, and is started again.
            process.incarnation.crash(f"ended: {faults.exceptions[0]!r}")
        # Supervised boundary: a bug ends the process, and is a finding.
        except* Exception as errors:  # noqa: BLE001
            self.findings.append(
                f"{process.incarnation.name} died of a bug: {errors.exceptions[0]!r}"
            )
            process.incarnation.crash("bug")

    def _crashed(self, part: Part, replica: int, _where: str) -> None:
        self.crashes += 1
        self._alive.pop(f"{part.service}-{replica}", None)
        pause_s = 0.2 + 3 * self.chance.draw("restart", part.service)
        # In nobody's name: whoever crashed runs nothing any more.
        self.loop.call_later(
            pause_s, self._start, part, replica, context=contextvars.Context()
        )

    # -- callers --

    async def _prepare(self) -> None:
        employee = Employee(
            name=EMPLOYEE,
            role="Clerk",
            instructions="Calculate, then say it.",
            tools=("calculator",),
        )
        request = ApplyEmployee(tenant=TENANT, employee=employee)
        await self.ask(EMPLOYEE_APPLY.to(TENANT), request, EmployeeVersion)
        trigger = Trigger(
            name="asked",
            subject="asked",
            task=TriggerTask(employee=EMPLOYEE, goal="Answer {{ data.number }}"),
        )
        apply = ApplyTrigger(tenant=TENANT, trigger=trigger)
        await self.ask(TRIGGER_APPLY.to(TENANT), apply, TriggerVersion)

    async def _submit(self, number: int) -> None:
        await self._sometime("submit", number)
        request = TaskRequest(employee=EMPLOYEE, goal=f"What is {number}?")
        who = Principal(key_id="k1", role=Role.TENANT, tenant=TENANT)
        key = f"key-{number}"
        accepted = await self._call_gateway(
            lambda deps: submit_task(request, who, key, deps)
        )
        self.accepted.tasks[accepted.task_id] = False
        if number < self.plan.cancels:
            self.accepted.tasks[accepted.task_id] = True
            await asyncio.sleep(6 * self.chance.draw("cancel", str(number)))
            await self._call_gateway(
                lambda deps: cancel_task(TENANT, accepted.task_id, "stop", deps)
            )

    async def _publish_event(self, number: int) -> None:
        """Publish as another system does: again, until the PubAck has come."""
        await self._sometime("event", number)
        body = json.dumps({"number": number}).encode()
        headers = {
            "ce-id": f"event-{number}",
            "ce-source": "simulation",
            "ce-type": "asked",
            "ce-specversion": "1.0",
        }
        while True:
            try:
                await self._observer.connection.request(
                    f"events.{TENANT}.asked", body, headers, 1.0
                )
                break
            except Fault:
                await asyncio.sleep(LOOK_S)
        self.accepted.events.add(f"event-{number}")

    # Any: the gateway's Deps.
    async def _call_gateway(
        self, call: Callable[[Any], Coroutine[Any, Any, T]]
    ) -> T | Any:
        """Call some living gateway, as an HTTP client with retries does."""
        while True:
            names = sorted(
                name for name in self._alive if name.startswith(Service.GATEWAY)
            )
            if names:
                name = names[self.chance.pick(len(names), "gateway")]
                process, composed = self._alive[name]
                answer: asyncio.Future[T] = self.loop.create_future()
                process.incarnation.start(_into(answer, call(composed.deps)))
                try:
                    async with asyncio.timeout(20):
                        return await answer
                except Refused as refused:
                    if not refused.envelope.retryable:
                        return None
                except (Fault, TimeoutError):
                    pass
            await asyncio.sleep(LOOK_S)

    async def _sometime(self, what: str, number: int) -> None:
        share = self.chance.draw(what, str(number))
        await asyncio.sleep(share * self.plan.storm_s * 0.8)

    # -- trouble --

    async def _trouble(self) -> None:
        for number in range(self.plan.outages):
            await asyncio.sleep(
                self.plan.storm_s
                / (self.plan.outages + 1)
                * (0.5 + self.chance.draw("outage", str(number)) / 2)
            )
            self.nats.down()
            await asyncio.sleep(0.2 + 2 * self.chance.draw("outage-s", str(number)))
            # What other systems have published is NATS's to keep until it is taken.
            if self.plan.wipes and self.plan.events == 0:
                self.nats.wipe()
            self.nats.up()

    def _calm(self) -> None:
        self.trace("calm", "")
        self._is_stormy = False
        self.nats.faults = CALM
        for vendor in self.vendors.values():
            vendor.failing = 0.0
        for process, _ in self._alive.values():
            process.incarnation.calm()

    async def _until_ended(self) -> None:
        """Wait until every accepted task, and every event's, has ended."""
        began_s = self.loop.time()
        expected = len(self.accepted.tasks) + len(self.accepted.events)
        while self.loop.time() - began_s < self.plan.quiet_s:
            request = ListTasks(tenant=TENANT, limit=TASKS_MAX)
            page = await self.ask(TASK_LIST.to(TENANT), request, TaskPage)
            ended = [task for task in page.tasks if task.status.is_end]
            if len(ended) == len(page.tasks) >= expected:
                return
            await asyncio.sleep(LOOK_S)

    async def _until_settled(self) -> None:
        """Wait until nothing is owed and no attempt is open or untold."""
        began_s = self.loop.time()
        while self.loop.time() - began_s < self.plan.quiet_s:
            owed = [await self.count(each, "outbox") for each in self.stores]
            open_attempts = await self.count(
                Service.AI_BROKER, "attempt WHERE state = 'dispatched' OR NOT is_told"
            )
            if not any(owed) and not open_attempts:
                return
            await asyncio.sleep(LOOK_S)

    async def count(self, service: Service, rows: str) -> int:
        """Return how many rows a service's store has: ``table [WHERE …]``."""
        # The text is a constant of the testkit.
        query = text(f"SELECT count(*) FROM {rows}")  # noqa: S608
        return await self.stores[service].read(
            lambda connection: int(connection.execute(query).scalar_one())
        )

    async def _dispatched(self, completion_id: str) -> None:
        self.trace("vendor", completion_id)
        answered = text(
            "SELECT count(*) FROM completion "
            "WHERE completion_id = :id AND answer IS NOT NULL"
        ).bindparams(id=completion_id)
        if await self.stores[Service.AI_BROKER].read(
            lambda connection: connection.execute(answered).scalar_one()
        ):
            self.findings.append(DISPATCHED_AGAIN + completion_id)


async def _into(answer: "asyncio.Future[T]", call: Coroutine[Any, Any, T]) -> None:
    try:
        result = await call
    # Supervised boundary: the caller hears whatever the gateway raised.
    except Exception as error:  # noqa: BLE001
        if not answer.done():
            answer.set_exception(error)
    else:
        if not answer.done():
            answer.set_result(result)


def hash_of(seed: int, name: str) -> int:
    """Return a seed of its own for a name."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
