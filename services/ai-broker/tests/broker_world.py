"""A scripted vendor, one store and several replicas, in virtual time."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import select

from ai_broker.adapters.answer_cache import SqlAnswerCache
from ai_broker.adapters.credentials import SqlCredentials
from ai_broker.adapters.keyring import Keyring
from ai_broker.adapters.own_vendors import OwnVendors
from ai_broker.adapters.sql import SqlStore
from ai_broker.adapters.tables import ATTEMPT, SHARED, BrokerTable
from ai_broker.adapters.vendors.pool import VendorPool
from ai_broker.domain import embedding
from ai_broker.domain.catalogue import Candidate, Endpoint, Menu, ModelEntry, Protocol
from ai_broker.domain.catalogue import VendorEntry as Entry
from ai_broker.domain.policy import Alias
from ai_broker.domain.vendor import (
    Done,
    Failure,
    FailureKind,
    Prepared,
    Started,
    Text,
    UsageSeen,
    VendorError,
    VendorEvent,
)
from ai_broker.handlers import Desk, complete, put_credential, tell
from ai_broker.handlers.money import Money
from ai_broker.ports import AnswerCache, Deps, Limits
from contracts.completions import (
    ChatTurn,
    CompletionRequest,
    FinishReason,
    Role,
    TextPart,
)
from contracts.credentials import PutCredential
from contracts.embeddings import EmbeddingRequest
from contracts.frames import Failed, Finished, TextDelta, VectorsDelta
from contracts.message import JsonObject
from contracts.problems import Code
from contracts.usage import TokenUsage, UsageBatch, UsageRecord
from determinism import Bell, SeededIds
from faults import PermanentFault
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

MODELS = {"first": "model-1", "second": "model-2", "third": "model-3"}
"""Three vendors; the platform has keys for the first two."""

Act = VendorEvent | Failure | float | Callable[[], None]


@dataclass
class ScriptedVendor:
    """Plays one script per call; refuses a temperature, as some vendors do."""

    clock: SimulatedClock
    scripts: list[Sequence[Act]] = field(default_factory=list[Sequence[Act]])
    attempts: list[str] = field(default_factory=list[str])
    always: Sequence[Act] | None = None
    """Played when no script is left."""
    prepared: list[CompletionRequest] = field(default_factory=list[CompletionRequest])

    def prepare(self, request: CompletionRequest, candidate: Candidate) -> Prepared:
        self.prepared.append(request)
        if request.sampling.temperature is None:
            return Prepared({"model": candidate.model})
        if not request.drop_unsupported:
            raise PermanentFault("sampling.temperature: this vendor cannot")
        return Prepared({"model": candidate.model}, ("sampling.temperature",))

    async def complete(
        self, body: JsonObject, attempt_id: str, timeout_s: float
    ) -> AsyncGenerator[VendorEvent]:
        self.attempts.append(attempt_id)
        script = self.scripts.pop(0) if self.scripts else self.always
        assert script is not None, "asked more often than the test expects"
        for act in script:
            if isinstance(act, float | int):
                await self.clock.sleep(act)
            elif isinstance(act, Failure):
                raise VendorError(act)
            elif callable(act):
                act()
            else:
                yield act

    async def embed(
        self, body: JsonObject, attempt_id: str, timeout_s: float
    ) -> AsyncGenerator[VendorEvent]:
        async for event in self.complete(body, attempt_id, timeout_s):
            assert not isinstance(event, Text), "texts have vectors for an answer"
            yield event

    async def models(
        self, check_id: str, timeout_s: float
    ) -> AsyncGenerator[VendorEvent]:
        async for event in self.complete({}, check_id, timeout_s):
            yield event

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
    def vectors(self) -> tuple[bytes, ...]:
        frames = [each for each in self.frames if isinstance(each, VectorsDelta)]
        placed = {
            place: vector
            for frame in frames
            for place, vector in enumerate(frame.vectors, frame.first)
        }
        return tuple(placed[place] for place in range(len(placed)))

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


def entry(name: str, model: str, **changes: object) -> Entry:
    """Give a catalogue entry with one model."""
    models = (ModelEntry(name=model),)
    fields = {"name": name, "protocol": Protocol.OPENAI, "base_url": ""}
    return Entry.model_validate({**fields, "models": models, **changes})


class World:
    """Two vendors, one store, as many replicas as a test wants."""

    def __init__(self, loop: SimulationLoop) -> None:
        self.clock = SimulatedClock(loop)
        self.ids = SeededIds(7)
        self.database = InlineDatabase.create(BrokerTable.metadata)
        self.first = ScriptedVendor(self.clock)
        self.second = ScriptedVendor(self.clock)
        self.keyed: dict[str, ScriptedVendor] = {}
        """By key, the vendors that tenants' own keys lead to."""
        self.keks = [bytes(32)]
        self.pool = VendorPool(lambda endpoint: self.keyed[endpoint.key])
        self.woken: list[str] = []
        self.prices: Rates | None = None
        self.entries = tuple(entry(each, MODELS[each]) for each in ("first", "second"))
        self.alias = Alias.model_validate(["first/model-1", "second/model-2"])
        self.settled = Bell()

    def replica(
        self,
        name: str,
        limits: Limits | None = None,
        cache: AnswerCache | None = None,
        money: Money | None = None,
    ) -> Desk:
        menu = Menu(
            self.entries,
            {"smart": self.alias},
        )
        credentials, sealer = (
            SqlCredentials(self.database),
            Keyring(self.keks, self.ids),
        )
        keyable = {
            each: Endpoint(entry(each, model), "") for each, model in MODELS.items()
        }
        deps = Deps(
            store=SqlStore(
                self.database,
                self.woken.extend,
                self.clock,
                self.settled,
                None if money is None else money.committed,
            ),
            settled=self.settled,
            vendors={"first": self.first, "second": self.second},
            menu=menu,
            clock=self.clock,
            ids=self.ids,
            instance=name,
            cache=cache or SqlAnswerCache(self.database),
            own=OwnVendors(credentials, sealer, keyable, self.pool, self.clock),
            credentials=credentials,
            sealer=sealer,
            keyable=frozenset(keyable),
            limits=limits or Limits(),
            prices=self.prices,
        )
        return Desk(deps, None if money is None else money.purse)

    def request(self, **changes: object) -> CompletionRequest:
        asked: dict[str, object] = {
            "completion_id": "step_1:0",
            "tenant": "acme",
            "model": "first/model-1",
            "turns": (ChatTurn(role=Role.USER, parts=(TextPart(text="Greet me"),)),),
            "deadline": self.clock.now() + timedelta(seconds=60),
        }
        return CompletionRequest.model_validate(asked | changes)

    def within(self, seconds: float) -> dict[str, object]:
        """Give the change that makes a request end in so many seconds."""
        return {"deadline": self.clock.now() + timedelta(seconds=seconds)}

    async def ask(self, desk: Desk, **changes: object) -> Sink:
        sink = Sink()
        await complete(self.request(**changes), sink, desk)
        return sink

    async def embed(self, desk: Desk, *inputs: str, **changes: object) -> Sink:
        """Ask for vectors, as the subscription does."""
        asked: dict[str, object] = {
            "completion_id": "step_1:0",
            "tenant": "acme",
            "model": "first/model-1",
            "inputs": inputs,
            "deadline": self.clock.now() + timedelta(seconds=60),
        }
        request = EmbeddingRequest.model_validate(asked | changes)
        sink = Sink()
        await complete(embedding.question_of(request), sink, desk)
        return sink

    async def put_key(self, desk: Desk, vendor: str, key: str) -> None:
        """Keep a key of acme's own."""
        asked = {"tenant": "acme", "vendor": vendor, "key": key}
        await put_credential(PutCredential.model_validate(asked), desk.deps)

    async def owed(self) -> list[bytes]:
        """What waits to leave for the ledger."""
        return await self.database.read(
            lambda conn: list(conn.scalars(select(SHARED.outbox.c.body)).all())
        )

    async def ledger(self) -> list[UsageRecord]:
        """What the outbox owes to the ledger; each attempt must be there once."""
        while await tell(self.replica("teller").deps):
            pass
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


@dataclass(frozen=True)
class Rates:
    """So many pico-USD a token, by vendor."""

    by_vendor: dict[str, int]

    def known(self, record: UsageRecord) -> int | None:
        rate = self.by_vendor.get(record.vendor)
        return None if rate is None else rate * record.usage.total


def hedged(world: World, **caps: object) -> Desk:
    """Give a replica that hedges after a second, at any price that is not doubled."""
    hedge = {"after_ms": 1000, **(caps or {"cost_ratio_max": 2.0})}
    models = ["first/model-1", "second/model-2"]
    world.alias = Alias.model_validate({"models": models, "hedge": hedge})
    world.prices = world.prices or Rates({"first": 10, "second": 15})
    return world.replica("a")


def aborting(world: World, abort: str) -> None:
    """Let both vendors treat hung-up calls like this."""
    world.entries = (
        entry("first", "model-1", abort=abort),
        entry("second", "model-2", abort=abort),
    )


def play(scene: Callable[[World], Awaitable[None]], limit_s: float = 600) -> None:
    """Run a scene in a world of its own, in virtual time."""

    async def main(loop: SimulationLoop) -> None:
        await scene(World(loop))

    run_simulation(main, limit_s=limit_s)
