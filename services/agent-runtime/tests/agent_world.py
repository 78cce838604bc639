"""A broker that remembers what it was paid for, and processes that may freeze."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, TypeVar

import pytest
from sqlalchemy import Connection

from agent_runtime.adapters.sql import SqlStore, known_steps
from agent_runtime.adapters.tables import SHARED, RuntimeTable
from agent_runtime.handlers import steps
from agent_runtime.handlers.crew import Crew
from agent_runtime.handlers.employees import apply_employee
from agent_runtime.ports import Deps, Pace
from contracts.completions import (
    AttemptSummary,
    Completion,
    CompletionRequest,
    FinishReason,
    Part,
    TextPart,
    ToolCallPart,
)
from contracts.employees import ApplyEmployee, Employee, Limits
from contracts.frames import Failed, Finished, Frame, TextDelta
from contracts.message import Message
from contracts.problems import Code, ErrorEnvelope, problem
from contracts.steps import CancelStep, StepFinished, StepRequested
from contracts.tasks import LiveDelta, TaskFile
from contracts.turns import TurnFinished
from contracts.usage import EndState, TokenUsage, UsageSource
from determinism import SeededIds
from faults import TransientFault
from messaging.bus import Delivery, FrameStream
from persistence.database import InlineDatabase
from testkit.clock import SimulatedClock, run_simulation

T = TypeVar("T")

SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"total": {"type": "number"}},
    "required": ["total"],
    "additionalProperties": False,
}
CLERK = Employee(
    name="clerk",
    role="clerk",
    instructions="Check sums.",
    tools=("read_file", "calculator"),
    output_schema=dict(SCHEMA),
)
LETTER = TaskFile(name="letter.txt", content="2 lamps at 3.50 make 8.00")

Script = Callable[[CompletionRequest], "Completion | Failed | Exception | None"]
"""What the vendor does: answer, fail, break the line, or (None) stay silent."""


def call(name: str, arguments: str, call_id: str = "call_1") -> ToolCallPart:
    """Make a tool call."""
    return ToolCallPart(call_id=call_id, name=name, arguments=arguments)


def answer(
    request: CompletionRequest,
    *parts: Part | str,
    finish: FinishReason | None = None,
) -> Completion:
    """Make the answer of a completed vendor call."""
    made = tuple(
        TextPart(text=each) if isinstance(each, str) else each for each in parts
    )
    uses_tools = any(isinstance(each, ToolCallPart) for each in made)
    usual = FinishReason.TOOL_CALLS if uses_tools else FinishReason.STOP
    usage = TokenUsage(input_tokens=10, output_tokens=5)
    attempt_id = "attempt_" + request.completion_id.replace(":", "_")
    return Completion(
        completion_id=request.completion_id,
        vendor="sandbox",
        model="sandbox-1",
        parts=made,
        finish_reason=finish or usual,
        usage=usage,
        attempts=(attempt(attempt_id, EndState.COMPLETED),),
        created_at=request.deadline,
    )


def attempt(attempt_id: str, end_state: EndState) -> AttemptSummary:
    """Make a vendor call's summary."""
    return AttemptSummary(
        attempt_id=attempt_id,
        vendor="sandbox",
        model="sandbox-1",
        end_state=end_state,
        usage=TokenUsage(input_tokens=10, output_tokens=5),
        source=UsageSource.VENDOR,
    )


def failure(code: Code, *, retryable: bool, attempts: tuple[str, ...] = ()) -> Failed:
    """Make the end of a completion that failed."""
    return Failed(
        error=ErrorEnvelope(problem=problem(code, "made up"), retryable=retryable),
        attempts=tuple(attempt(each, EndState.FAILED) for each in attempts),
    )


def checks_letter(request: CompletionRequest) -> Completion:
    """Read, calculate, answer: three turns."""
    match request.completion_id.partition(":")[2]:
        case "1":
            return answer(request, call("read_file", '{"path": "letter.txt"}'))
        case "2":
            return answer(request, call("calculator", '{"expression": "2 * 3.50"}'))
        case _:
            return answer(request, '{"total": 7}')


@dataclass
class Broker:
    """Stores answers by completion id, as ai-broker does; repeats are free."""

    script: Script
    clock: SimulatedClock
    asked: list[CompletionRequest] = field(default_factory=list[CompletionRequest])
    paid: list[str] = field(default_factory=list[str])
    cancelled: list[str] = field(default_factory=list[str])
    saved: dict[str, Completion] = field(default_factory=dict[str, Completion])

    def complete(
        self, request: CompletionRequest
    ) -> AbstractAsyncContextManager[FrameStream]:
        """Open an answer."""
        return self._open(request)

    @asynccontextmanager
    async def _open(self, request: CompletionRequest) -> AsyncGenerator[FrameStream]:
        self.asked.append(request)
        yield _Answer(self, request)


class _Answer:
    def __init__(self, broker: Broker, request: CompletionRequest) -> None:
        self._broker = broker
        self._request = request
        self._stop = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[Frame]:
        broker, key = self._broker, self._request.completion_id
        if key not in broker.saved:
            broker.paid.append(key)
            outcome = broker.script(self._request)
            if outcome is None:
                await self._stop.wait()
                outcome = failure(
                    Code.CANCELLED, retryable=False, attempts=("attempt_stopped",)
                )
            if isinstance(outcome, Exception):
                raise outcome
            if isinstance(outcome, Failed):
                yield outcome
                return
            for part in outcome.parts:
                if isinstance(part, TextPart):
                    for letter in part.text:
                        await broker.clock.sleep(0.02)
                        yield TextDelta(part=0, text=letter)
            broker.saved[key] = outcome
        yield Finished(completion=broker.saved[key])

    async def cancel(self) -> None:
        """Stop a silent vendor."""
        self._broker.cancelled.append(self._request.completion_id)
        self._stop.set()


@dataclass
class Watchers:
    """Keeps what was shown."""

    seen: list[LiveDelta] = field(default_factory=list[LiveDelta])

    async def show(self, tenant: str, task_id: str, message: Message) -> None:
        """Keep one piece."""
        assert isinstance(message, LiveDelta)
        self.seen.append(message)


@dataclass
class Process:
    """One replica; ``freeze_at`` stops it for ever at a moment of its store."""

    name: str
    deps: Deps
    crew: Crew
    freeze_at: int | None = None
    is_cut_off: bool = False
    moments: int = 0

    async def around(self, _moment: str) -> None:
        """Freeze, or be cut off from the store, as the test wants it."""
        self.moments += 1
        if self.freeze_at is not None and self.moments >= self.freeze_at:
            await asyncio.Event().wait()
        if self.is_cut_off:
            raise TransientFault("cut off from the store")


class World:
    """One store, one broker, any number of replicas, in virtual time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, script: Script) -> None:
        self.clock = SimulatedClock(loop)
        self.broker = Broker(script, self.clock)
        self.watchers = Watchers()
        self.database = InlineDatabase.create(RuntimeTable.metadata)
        self._loops: list[asyncio.Task[None]] = []

    def process(
        self, name: str, *, steps_max: int = 8, freeze_at: int | None = None
    ) -> Process:
        """Start a replica."""
        crew, pace = Crew(steps_max), Pace()
        started: list[Process] = []

        async def around(moment: str) -> None:
            if started:
                await started[0].around(moment)

        store = SqlStore(
            _Beside(self.database, around),
            self.clock,
            lambda _ids: None,
            owner=name,
            lease_duration=timedelta(seconds=pace.lease_s),
        )
        deps = Deps(
            store=store,
            model=self.broker,
            watchers=self.watchers,
            seats=crew,
            clock=self.clock,
            ids=SeededIds(1),
            pace=pace,
        )
        made = Process(name, deps, crew, freeze_at)
        started.append(made)
        for run in (crew.work(deps), crew.sweep(deps)):
            self.spawn(run)
        return made

    def spawn(self, run: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something beside the test; the world owns it."""
        task = asyncio.get_running_loop().create_task(run)
        self._loops.append(task)
        return task

    async def stop(self) -> None:
        """End all that runs."""
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)

    async def hire(self, process: Process, employee: Employee = CLERK) -> None:
        """Apply an employee."""
        await apply_employee(
            ApplyEmployee(tenant="acme", employee=employee), process.deps
        )

    def brief(self, name: str = "one", *, employee: str = "clerk") -> StepRequested:
        """Make a step's doorbell."""
        return StepRequested(
            tenant="acme",
            task_id=f"task_{name}",
            step_id=f"step_{name}",
            employee=employee,
            goal="Check letter.txt",
            files=(LETTER,),
            deadline=self.clock.now() + timedelta(minutes=30),
        )

    async def ring(self, process: Process, brief: StepRequested) -> None:
        """Deliver a doorbell."""
        delivery = Delivery("work", f"bell_{brief.step_id}", brief.tenant)
        await steps.receive_step(brief, delivery, process.deps)

    async def cancel(self, process: Process, brief: StepRequested) -> None:
        """Deliver a cancel."""
        message = CancelStep(
            tenant=brief.tenant,
            task_id=brief.task_id,
            step_id=brief.step_id,
            reason="no",
        )
        delivery = Delivery("work", f"cancel_{brief.step_id}", brief.tenant)
        await steps.cancel_step(message, delivery, process.deps)

    def finished(self) -> list[StepFinished]:
        """Return the ends of steps that the store owes."""
        return [
            StepFinished.model_validate_json(body)
            for address, body in self._owed()
            if address.startswith("work.orchestrator.step-finished.")
        ]

    def turns(self) -> list[TurnFinished]:
        """Return the turns that the store owes."""
        return [
            TurnFinished.model_validate_json(body)
            for address, body in self._owed()
            if address.startswith("work.orchestrator.turn.")
        ]

    async def until_finished(self, count: int = 1) -> list[StepFinished]:
        """Wait until so many steps have ended."""
        while len(self.finished()) < count:
            await self.clock.sleep(0.05)
        return self.finished()

    def knows(self, *message_ids: str) -> set[str]:
        """Answer the relay's question by the doorbells' own table."""
        return self._now(lambda conn: known_steps(conn, message_ids))

    def _owed(self) -> list[tuple[str, bytes]]:
        table = SHARED.outbox
        query = table.select().order_by(table.c.created_at, table.c.message_id)
        return self._now(
            lambda conn: [(row.address, row.body) for row in conn.execute(query)]
        )

    def _now(self, query: Callable[[Connection], T]) -> T:
        # The inline store waits for nothing: its first step is its last.
        with pytest.raises(StopIteration) as done:
            self.database.read(query).send(None)
        value: T = done.value.value
        return value


class _Beside:
    """The shared store as one process sees it, with that process's moments."""

    def __init__(
        self,
        database: InlineDatabase,
        around: Callable[[str], Coroutine[Any, Any, None]],
    ) -> None:
        self._database = database
        self._around = around

    @property
    def dialect(self) -> Literal["sqlite"]:
        """The store's."""
        return "sqlite"

    @property
    def store_id(self) -> str:
        """The store's."""
        return self._database.store_id

    async def run(self, transaction: Callable[[Connection], T]) -> T:
        """Commit between the two moments at which a process may die."""
        await self._around("begin")
        result = await self._database.run(transaction)
        await self._around("committed")
        return result

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Read, unless cut off."""
        await self._around("read")
        return await self._database.read(query)

    async def check(self) -> None:
        """Always well."""

    async def close(self) -> None:
        """Nothing to close."""


def play(script: Script, test: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    """Run a test in virtual time; a world that stands still fails it."""

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        world = World(loop, script)
        try:
            await test(world)
        finally:
            await world.stop()

    run_simulation(main, limit_s=600)


def without_schema(employee: Employee = CLERK, **limits: int) -> Employee:
    """Return an employee that answers in text, within limits."""
    changes = {"output_schema": None, "limits": Limits(**limits)}
    return employee.model_copy(update=changes)
