"""Completions against a scripted vendor, in virtual time, several replicas at once."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import select

from ai_broker.adapters.sql import SqlStore
from ai_broker.adapters.tables import ATTEMPT, SHARED, BrokerTable
from ai_broker.domain.catalogue import Candidate, Menu, ModelEntry, Protocol
from ai_broker.domain.catalogue import VendorEntry as Entry
from ai_broker.domain.vendor import (
    Done,
    Failure,
    FailureKind,
    Started,
    Text,
    UsageSeen,
    VendorError,
    VendorEvent,
)
from ai_broker.handlers import Desk, cancel, complete, sweep
from ai_broker.ports import Deps, Limits
from contracts.completions import (
    ChatTurn,
    CompletionRequest,
    FinishReason,
    Role,
    TextPart,
)
from contracts.frames import CancelCompletion, Failed, Finished, Opened, TextDelta
from contracts.message import JsonObject
from contracts.problems import Code
from contracts.usage import EndState, TokenUsage, UsageBatch, UsageRecord, UsageSource
from determinism import SeededIds
from faults import PermanentFault, TransientFault
from messaging.subscriptions import FrameBody
from persistence.database import InlineDatabase
from testkit.clock import SimulatedClock, SimulationLoop, run_simulation

USAGE = TokenUsage(input_tokens=11, output_tokens=7)
SEEN = UsageSeen(USAGE, {"prompt_tokens": 11, "completion_tokens": 7}, final=True)
DONE = Done(FinishReason.STOP, "model-1-2026")
GOOD: tuple["Act", ...] = (
    Started(200, "req-1"),
    Text(0, "Good "),
    Text(0, "day"),
    SEEN,
)
LIMITED = Failure(FailureKind.REFUSED, "slow down", 429, "rate_limit_error")

Act = VendorEvent | Failure | float | Callable[[], None]


@dataclass
class ScriptedVendor:
    """Plays one script per call; refuses a temperature, as some vendors do."""

    clock: SimulatedClock
    scripts: list[Sequence[Act]] = field(default_factory=list[Sequence[Act]])
    attempts: list[str] = field(default_factory=list[str])

    def prepare(self, request: CompletionRequest, candidate: Candidate) -> JsonObject:
        if request.sampling.temperature is not None:
            raise PermanentFault("sampling.temperature: this vendor cannot")
        return {"model": candidate.model}

    async def complete(
        self, body: JsonObject, attempt_id: str, timeout_s: float
    ) -> AsyncGenerator[VendorEvent]:
        self.attempts.append(attempt_id)
        for act in self.scripts.pop(0):
            if isinstance(act, float):
                await self.clock.sleep(act)
            elif isinstance(act, Failure):
                raise VendorError(act)
            elif callable(act):
                act()
            else:
                yield act

    async def close(self) -> None:
        return


@dataclass
class Sink:
    frames: list[FrameBody] = field(default_factory=list[FrameBody])

    async def send(self, frame: FrameBody) -> None:
        self.frames.append(frame)

    @property
    def text(self) -> str:
        return "".join(each.text for each in self.frames if isinstance(each, TextDelta))

    @property
    def finished(self) -> Finished:
        last = self.frames[-1]
        assert isinstance(last, Finished), last
        return last

    @property
    def failed(self) -> Failed:
        last = self.frames[-1]
        assert isinstance(last, Failed), last
        return last

    @property
    def code(self) -> Code:
        return self.failed.error.problem.code


def entry(name: str, model: str) -> Entry:
    models = (ModelEntry(name=model),)
    return Entry(name=name, protocol=Protocol.OPENAI, base_url="", models=models)


class World:
    """Two vendors, one store, as many replicas as a test wants."""

    def __init__(self, loop: SimulationLoop) -> None:
        self.clock = SimulatedClock(loop)
        self.ids = SeededIds(7)
        self.database = InlineDatabase.create(BrokerTable.metadata)
        self.first = ScriptedVendor(self.clock)
        self.second = ScriptedVendor(self.clock)
        self.woken: list[str] = []

    def replica(self, name: str, limits: Limits | None = None) -> Desk:
        menu = Menu(
            (entry("first", "model-1"), entry("second", "model-2")),
            {"smart": ("first/model-1", "second/model-2")},
        )
        deps = Deps(
            store=SqlStore(self.database, self.woken.extend, self.clock),
            vendors={"first": self.first, "second": self.second},
            menu=menu,
            clock=self.clock,
            ids=self.ids,
            instance=name,
            limits=limits or Limits(),
        )
        return Desk(deps)

    def request(self, **changes: object) -> CompletionRequest:
        asked: dict[str, object] = {
            "completion_id": "step_1:0",
            "tenant": "acme",
            "model": "first/model-1",
            "turns": (ChatTurn(role=Role.USER, parts=(TextPart(text="Greet me"),)),),
            "deadline": self.clock.now() + timedelta(seconds=60),
        }
        return CompletionRequest.model_validate(asked | changes)

    async def ask(self, desk: Desk, **changes: object) -> Sink:
        sink = Sink()
        await complete(self.request(**changes), sink, desk)
        return sink

    async def ledger(self) -> list[UsageRecord]:
        """What the outbox owes to the ledger; each attempt must be there once."""
        bodies, attempts = await self.database.read(
            lambda conn: (
                conn.scalars(select(SHARED.outbox.c.body)).all(),
                conn.scalars(select(ATTEMPT.c.attempt_id)).all(),
            )
        )
        batches = [UsageBatch.model_validate_json(each) for each in bodies]
        records = [record for each in batches for record in each.records]
        assert sorted({each.attempt_id for each in records}) == sorted(attempts)
        assert {each.batch_id for each in batches} == set(self.woken)
        keys = {(each.attempt_id, each.revision) for each in records}
        assert len(keys) == len(records)
        return sorted(records, key=lambda each: (each.attempt_number, each.revision))


def play(scene: Callable[[World], Awaitable[None]], limit_s: float = 600) -> None:
    async def main(loop: SimulationLoop) -> None:
        await scene(World(loop))

    run_simulation(main, limit_s=limit_s)


def test_an_answer_is_paid_once_and_repeated_free() -> None:
    """A stored answer is replayed on any replica, and no vendor is asked again."""

    async def scene(world: World) -> None:
        world.first.scripts = [[*GOOD, DONE]]
        one = await world.ask(world.replica("a"))
        deadline = world.clock.now() + timedelta(seconds=5)
        again = await world.ask(world.replica("b"), deadline=deadline)
        silent = await world.ask(world.replica("b"), deltas=False)
        assert [type(each) for each in one.frames] == [
            Opened, TextDelta, TextDelta, Finished,
        ]  # fmt: skip
        assert one.text == again.text == "Good day"
        assert one.finished.completion == again.finished.completion
        assert [type(each) for each in silent.frames] == [Opened, Finished]
        assert len(world.first.attempts) == 1
        (record,) = await world.ledger()
        assert record.usage == USAGE
        assert record.source is UsageSource.VENDOR
        assert record.end_state is EndState.COMPLETED
        assert record.attempt_id == world.first.attempts[0]
        assert record.model == "model-1-2026"
        assert one.finished.completion.attempts[0].attempt_id == record.attempt_id

    play(scene)


def test_another_question_under_the_same_id_is_a_conflict() -> None:
    """An id names one question; another tenant's equal id is another question."""

    async def scene(world: World) -> None:
        world.first.scripts = [[*GOOD, DONE], [*GOOD, DONE]]
        desk = world.replica("a")
        await world.ask(desk)
        other = await world.ask(desk, output_tokens_max=5)
        assert other.code is Code.CONFLICT
        assert (await world.ask(desk, tenant="globex")).text == "Good day"
        assert len(await world.ledger()) == 2

    play(scene)


def test_repeats_join_the_running_answer() -> None:
    """Whoever asks again meanwhile, here or elsewhere, shares one vendor call."""

    async def scene(world: World) -> None:
        slow = [Started(200, None), Text(0, "Good "), 30.0, Text(0, "day"), SEEN, DONE]
        world.first.scripts = [slow]
        here, elsewhere = world.replica("a"), world.replica("b")

        async def later(desk: Desk, delay_s: float) -> Sink:
            await world.clock.sleep(delay_s)
            return await world.ask(desk)

        sinks = await asyncio.gather(
            later(here, 0), later(here, 1), later(elsewhere, 1), later(here, 29)
        )
        assert [each.text for each in sinks] == ["Good day"] * 4
        assert len({each.finished.completion.created_at for each in sinks}) == 1
        for sink in sinks:
            opened = sink.frames[0]
            assert isinstance(opened, Opened)
            assert opened.instance == "a", "a cancel must reach the one that works"
        assert len(await world.ledger()) == 1

    play(scene)


def test_a_dead_owner_is_taken_over_and_its_attempt_recorded() -> None:
    """A crash between answer and commit: one unknown attempt and one more call."""

    async def scene(world: World) -> None:
        dead, database = world.replica("a", Limits(commit_tries=2)), world.database

        def crash() -> None:
            world.database = database.reopen()

        world.first.scripts = [[*GOOD, crash, DONE], [*GOOD, DONE]]
        try:
            await world.ask(dead)
        except TransientFault:
            pass
        else:
            raise AssertionError("the dead replica cannot have stored anything")
        sink = await world.ask(world.replica("b"))
        assert sink.text == "Good day"
        unknown, paid = await world.ledger()
        assert unknown.end_state is EndState.UNKNOWN
        assert unknown.source is UsageSource.UNKNOWN
        assert unknown.usage.input_tokens > 0
        assert unknown.usage.output_tokens > 0
        assert paid.usage == USAGE
        assert [each.end_state for each in sink.finished.completion.attempts] == [
            EndState.UNKNOWN,
            EndState.COMPLETED,
        ]

    play(scene)


def test_a_late_owner_corrects_its_attempt_and_keeps_out_of_the_answer() -> None:
    """A replica that lost its claim reports the real usage by a higher revision."""

    async def scene(world: World) -> None:
        world.first.scripts = [[20.0, *GOOD, DONE], [Text(0, "Hello"), SEEN, DONE]]
        frozen = world.replica("a", Limits(lease_s=1, heartbeat_s=500))

        async def impatient() -> Sink:
            await world.clock.sleep(5)
            return await world.ask(world.replica("b"))

        late, taken = await asyncio.gather(world.ask(frozen), impatient())
        assert late.finished.completion == taken.finished.completion
        assert taken.text == "Hello"
        given_up, corrected, answered = await world.ledger()
        assert given_up.attempt_id == corrected.attempt_id
        assert (given_up.revision, corrected.revision) == (0, 1)
        assert given_up.end_state is EndState.UNKNOWN
        assert corrected.end_state is EndState.COMPLETED
        assert corrected.usage == USAGE
        assert answered.attempt_id != corrected.attempt_id

    play(scene)


def test_a_cancel_stops_the_vendor_and_settles_what_arrived() -> None:
    """A cancelled call is settled from what was heard, and flagged."""

    async def scene(world: World) -> None:
        world.first.scripts = [[Text(0, "Good "), 500.0, DONE], [*GOOD, DONE]]
        desk = world.replica("a")
        message = CancelCompletion(tenant="acme", completion_id="step_1:0")

        async def give_up() -> None:
            await world.clock.sleep(3)
            await cancel(message.model_copy(update={"tenant": "globex"}), desk)
            await world.clock.sleep(3)
            await cancel(message, desk)

        began = world.clock.now()
        sink, _ = await asyncio.gather(world.ask(desk), give_up())
        assert sink.code is Code.CANCELLED
        assert (world.clock.now() - began).total_seconds() < 7
        (record,) = await world.ledger()
        assert record.end_state is EndState.CANCELLED
        assert record.source is UsageSource.ESTIMATED
        assert 0 < record.usage.output_tokens < 10
        assert sink.failed.attempts[0].attempt_id == record.attempt_id
        assert (await world.ask(desk)).text == "Good day"

    play(scene)


def test_a_cancel_between_attempts_ends_the_wait() -> None:
    """A caller that gives up during a retry's pause is not kept waiting."""

    async def scene(world: World) -> None:
        wait = Failure(FailureKind.REFUSED, "later", 429, headers={"retry-after": "50"})
        world.first.scripts = [[wait]]
        desk = world.replica("a")

        async def give_up() -> None:
            await world.clock.sleep(2)
            await cancel(
                CancelCompletion(tenant="acme", completion_id="step_1:0"), desk
            )

        sink, _ = await asyncio.gather(world.ask(desk), give_up())
        assert sink.code is Code.CANCELLED
        (record,) = await world.ledger()
        assert record.usage.total == 0

    play(scene, limit_s=10)


def test_a_cut_answer_never_looks_clean() -> None:
    """After content a cut is an explicit error; asking again makes a new attempt."""

    async def scene(world: World) -> None:
        world.first.scripts = [[Started(200, "r"), Text(0, "Good ")], [*GOOD, DONE]]
        desk = world.replica("a")
        sink = await world.ask(desk, model="smart")
        assert sink.code is Code.STREAM_CUT
        assert sink.failed.error.retryable
        assert world.second.attempts == []
        (record,) = await world.ledger()
        assert record.end_state is EndState.CUT
        assert record.source is UsageSource.ESTIMATED
        again = await world.ask(desk, model="smart")
        assert again.text == "Good day"
        assert len(again.finished.completion.attempts) == 2

    play(scene)


def test_content_that_nobody_saw_does_not_bind() -> None:
    """Without deltas a cut answer is made anew, and nothing of the first stays."""

    async def scene(world: World) -> None:
        world.first.scripts = [[Text(0, "Bad "), Text(0, "day")], [*GOOD, DONE]]
        sink = await world.ask(world.replica("a"), deltas=False)
        (part,) = sink.finished.completion.parts
        assert isinstance(part, TextPart)
        assert part.text == "Good day"
        assert [each.end_state for each in await world.ledger()] == [
            EndState.CUT,
            EndState.COMPLETED,
        ]

    play(scene)


def test_a_rate_limit_is_waited_out() -> None:
    """A 429 consumed nothing; the same vendor is asked again when it said so."""

    async def scene(world: World) -> None:
        soon = Failure(FailureKind.REFUSED, "soon", 429, headers={"retry-after": "0.7"})
        world.first.scripts = [[soon], [*GOOD, DONE]]
        began = world.clock.now()
        sink = await world.ask(world.replica("a"), model="smart")
        assert sink.text == "Good day"
        assert (world.clock.now() - began).total_seconds() >= 0.7
        limited, paid = await world.ledger()
        assert limited.usage.total == 0
        assert limited.source is UsageSource.VENDOR
        assert limited.end_state is EndState.FAILED
        assert limited.http_status == 429
        assert paid.usage == USAGE

    play(scene)


def test_another_vendor_answers_when_the_first_cannot() -> None:
    """Failover is invisible before content, and both calls are on the ledger."""

    async def scene(world: World) -> None:
        broke = Failure(FailureKind.REFUSED, "no money", 429, "insufficient_quota")
        world.first.scripts = [[broke]]
        world.second.scripts = [[*GOOD, DONE]]
        sink = await world.ask(world.replica("a"), model="smart")
        assert sink.text == "Good day"
        assert [each.vendor for each in await world.ledger()] == ["first", "second"]
        world.first.scripts = [[broke]]
        alone = await world.ask(world.replica("a"), completion_id="step_2:0")
        assert alone.code is Code.VENDOR_UNAVAILABLE
        assert not alone.failed.error.retryable

    play(scene)


def test_retries_are_bounded() -> None:
    """Vendors that never recover are asked a fixed number of times."""

    async def scene(world: World) -> None:
        down = Failure(FailureKind.REFUSED, "down", 503)
        world.first.scripts = [[down] for _ in range(9)]
        world.second.scripts = [[down] for _ in range(9)]
        sink = await world.ask(world.replica("a"), model="smart")
        assert sink.code is Code.VENDOR_UNAVAILABLE
        assert sink.failed.error.retryable
        assert len(sink.failed.attempts) == len(await world.ledger()) == 6

    play(scene)


def test_a_deadline_ends_the_call() -> None:
    """A vendor that is too slow is left, and its call estimated as timed out."""

    async def scene(world: World) -> None:
        world.first.scripts = [[Started(200, None), 500.0, DONE]]
        sink = await world.ask(world.replica("a"))
        assert sink.code is Code.DEADLINE
        (record,) = await world.ledger()
        assert record.end_state is EndState.TIMED_OUT
        assert record.usage.output_tokens > 1_000, "it may have written everything"
        late = await world.ask(
            world.replica("a"), completion_id="c", deadline=world.clock.now()
        )
        assert late.code is Code.DEADLINE
        assert len(await world.ledger()) == 1

    play(scene)


def test_an_abandoned_attempt_is_recorded_though_nobody_asks_again() -> None:
    """The sweep gives every dispatched attempt its line; never before its time."""

    async def scene(world: World) -> None:
        database = world.database

        def crash() -> None:
            world.database = database.reopen()

        world.first.scripts = [[crash, 1.0, *GOOD, DONE]]
        try:
            await world.ask(world.replica("a", Limits(commit_tries=1)))
        except TransientFault:
            pass
        desk = world.replica("b")
        assert await sweep(desk.deps) == 0
        await world.clock.sleep(80)
        assert await sweep(desk.deps) == 1
        assert await sweep(desk.deps) == 0
        (record,) = await world.ledger()
        assert record.end_state is EndState.UNKNOWN
        world.first.scripts = [[*GOOD, DONE]]
        assert (await world.ask(desk)).text == "Good day"

    play(scene)


def test_what_nobody_can_answer_is_refused_unpaid() -> None:
    """An unknown model, or a field that no candidate has, never becomes an attempt."""

    async def scene(world: World) -> None:
        desk = world.replica("a")
        unknown = await world.ask(desk, model="nobody/nothing")
        assert unknown.code is Code.MODEL_UNKNOWN
        invalid = await world.ask(desk, sampling={"temperature": 1})
        assert invalid.code is Code.INVALID
        assert "sampling.temperature" in invalid.failed.error.problem.detail
        assert await world.ledger() == []

    play(scene)
