"""The wired service on a real sandbox: its subjects, its models, its first answer."""

import struct
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import aiohttp
import pytest
from broker_world import Sink
from pydantic import ValidationError
from silent_bus import SilentBus
from sqlalchemy import select

from ai_broker.adapters.tables import SHARED
from ai_broker.app import Composed, compose, read_guards
from ai_broker.domain.guard.policy import Mode
from ai_broker.handlers import tell
from ai_broker.handlers.tariff import Tariff
from ai_broker.settings import Settings
from contracts import subjects
from contracts.completions import ChatTurn, CompletionRequest, Role, TextPart
from contracts.embeddings import EmbeddingRequest
from contracts.frames import VectorsDelta
from contracts.message import Message
from contracts.models import ListModels, ModelPage
from contracts.problems import Code
from contracts.subjects import Verb
from contracts.usage import UsageBatch
from determinism import SeededIds, SystemClock
from messaging.bus import Bus, Delivery
from messaging.subscriptions import Answer, AnswerInFrames, Hear, Subscription
from persistence.database import Database

M = TypeVar("M", bound=Message)


def composed(database: Database, url: str, rate_file: Path | None = None) -> Composed:
    """Wire the service onto a store and a sandbox, without real keys."""
    settings = Settings(
        database_url="sqlite://",
        sandbox_url=url,
        vendor_environment={},
        rate_file=rate_file,
    )
    # cast: only the outbox relay would send, and it does not run here.
    bus = cast("Bus", SilentBus())
    clock, ids = SystemClock(), SeededIds(1)
    return compose(
        settings=settings,
        database=database,
        bus=bus,
        clock=clock,
        ids=ids,
    )


def frames_of(
    listed: Sequence[Subscription], verb: Verb = subjects.COMPLETE
) -> AnswerInFrames[Any]:
    """Find a subscription that is answered in frames."""
    framed = (each for each in listed if isinstance(each, AnswerInFrames))
    (found,) = (each for each in framed if each.verb == verb)
    return found


async def test_the_service_answers_by_alias_and_owes_the_ledger(
    database: Database, sandbox: aiohttp.ClientSession, sandbox_process: str
) -> None:
    """A completion through every layer: real store, real SDK, real HTTP."""
    wired = composed(database, sandbox_process)
    listens = wired.runnable.subscriptions
    delivery = Delivery("svc.ai-broker.stable.complete.acme", "m-1", "acme")
    deadline = SystemClock().now() + timedelta(seconds=30)
    for number, model in enumerate(("smart", "sandbox-anthropic/sandbox-claude")):
        request = CompletionRequest(
            completion_id=f"step_1:{number}",
            tenant="acme",
            model=model,
            turns=(ChatTurn(role=Role.USER, parts=(TextPart(text="Hello there"),)),),
            deadline=deadline,
        )
        sink = Sink()
        await frames_of(listens).answer(request, delivery, sink)
        assert sink.text
        assert sink.finished.completion.usage.total > 0
    await tell(wired.deps)
    bodies = await database.read(
        lambda conn: conn.scalars(select(SHARED.outbox.c.body)).all()
    )
    (batch,) = (UsageBatch.model_validate_json(each) for each in bodies)
    records = batch.records
    async with sandbox.get("/sandbox/ledger") as reply:
        rows = (await reply.json())["rows"]
    booked = {
        each["client_request_id"]: each["input_tokens"] + each["output_tokens"]
        for each in rows
    }
    assert booked == {each.attempt_id: each.usage.total for each in records}
    for vendor in wired.deps.vendors.values():
        await vendor.close()


async def test_vectors_come_through_every_layer_and_are_on_the_ledger(
    database: Database, sandbox: aiohttp.ClientSession, sandbox_process: str
) -> None:
    """More than one frame of them; near texts are near; the books are the vendor's."""
    wired = composed(database, sandbox_process)
    listens = wired.runnable.subscriptions
    texts = ("invoice number 4711", "invoice number 4712", "the sea at night")
    request = EmbeddingRequest(
        completion_id="embed:1",
        tenant="acme",
        model="sandbox-openai/sandbox-embedding-large",
        inputs=texts * 30,
        deadline=SystemClock().now() + timedelta(seconds=30),
    )
    sink = Sink()
    delivery = Delivery("svc.ai-broker.stable.embed.acme", "m-1", "acme")
    await frames_of(listens, subjects.EMBED).answer(request, delivery, sink)
    assert sink.finished.completion.vendor == "sandbox-openai"
    assert sum(isinstance(each, VectorsDelta) for each in sink.frames) > 1
    assert len(sink.vectors) == 90
    near, same, far = (struct.unpack("<1024f", each) for each in sink.vectors[:3])
    assert sink.vectors[:3] == sink.vectors[3:6]
    assert _likeness(near, same) > _likeness(near, far)
    await tell(wired.deps)
    (body,) = await database.read(
        lambda conn: conn.scalars(select(SHARED.outbox.c.body)).all()
    )
    (record,) = UsageBatch.model_validate_json(body).records
    async with sandbox.get("/sandbox/ledger") as reply:
        (row,) = (await reply.json())["rows"]
    assert row["client_request_id"] == record.attempt_id
    assert row["input_tokens"] == record.usage.input_tokens == record.usage.total
    await wired.close()


async def test_both_kinds_of_question_are_held_to_the_rate_file(
    database: Database,
    sandbox: aiohttp.ClientSession,
    sandbox_process: str,
    tmp_path: Path,
) -> None:
    """A conversation takes the only request that the file allows; vectors are told."""
    rates = tmp_path / "rates.yaml"
    rates.write_text("rules: [{scope: tenant, requests_per_minute: 1}]")
    wired = composed(database, sandbox_process, rates)
    listens = wired.runnable.subscriptions
    deadline = SystemClock().now() + timedelta(seconds=30)
    question = CompletionRequest(
        completion_id="step_1:0",
        tenant="acme",
        model="smart",
        turns=(ChatTurn(role=Role.USER, parts=(TextPart(text="Hello there"),)),),
        deadline=deadline,
    )
    texts = EmbeddingRequest(
        completion_id="embed:1",
        tenant="acme",
        model="sandbox-openai/sandbox-embedding-small",
        inputs=("red",),
        deadline=deadline,
    )
    delivery = Delivery("svc.ai-broker.stable.complete.acme", "m-1", "acme")
    first, second = Sink(), Sink()
    await frames_of(listens).answer(question, delivery, first)
    await frames_of(listens, subjects.EMBED).answer(texts, delivery, second)
    assert first.text
    assert second.code is Code.RATE_LIMITED
    await wired.close()


async def test_a_model_for_vectors_holds_no_conversation(
    database: Database, sandbox: aiohttp.ClientSession, sandbox_process: str
) -> None:
    """The catalogue knows it: refused by name, and nothing is dispatched."""
    wired = composed(database, sandbox_process)
    sink = Sink()
    request = CompletionRequest(
        completion_id="step_1:0",
        tenant="acme",
        model="sandbox-openai/sandbox-embedding-small",
        turns=(ChatTurn(role=Role.USER, parts=(TextPart(text="Hello there"),)),),
        deadline=SystemClock().now() + timedelta(seconds=30),
    )
    delivery = Delivery("svc.ai-broker.stable.complete.acme", "m-1", "acme")
    await frames_of(wired.runnable.subscriptions).answer(request, delivery, sink)
    assert sink.code is Code.INVALID
    assert "sandbox-embedding-small" in sink.failed.error.problem.detail
    async with sandbox.get("/sandbox/ledger") as reply:
        assert (await reply.json())["rows"] == []
    await wired.close()


def _likeness(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_models_and_cancels_have_their_subjects(
    database: Database, sandbox_process: str
) -> None:
    """The listing shows what is usable here; cancels come to this replica."""
    listens = composed(database, sandbox_process).runnable.subscriptions
    (models,) = (
        each
        for each in listens
        if isinstance(each, Answer) and each.verb == subjects.MODELS
    )
    page = await models.answer(ListModels(tenant="acme"), Delivery("s", "m", "acme"))
    assert isinstance(page, ModelPage)
    listed = {each.id: each.vendor for each in page.models}
    assert listed["smart"] == listed["fast"] == "sandbox-openai"
    assert "openai/gpt-6.1-sol" not in listed
    heard = {each.subject for each in listens if isinstance(each, Hear)}
    assert heard == {"svc.ai-broker.broker-1.cancel", "svc.ai-broker.every.recall.*"}


def test_the_guard_file_is_read_as_people_write_it(tmp_path: Path) -> None:
    """Per tenant, with a default; ``off`` means off, and a mistake names its field."""
    file = tmp_path / "guard.yaml"
    file.write_text("""
default: {mode: mask}
tenants:
  acme: {mode: off}
  globex:
    mode: mask-and-restore
    kinds: [email, cn-id]
    binaries: refuse
    patterns:
      - {name: BADGE, pattern: 'B-[0-9]{6}'}
""")
    book = read_guards(file)
    assert book.policy("acme").mode is Mode.OFF
    assert book.policy("other").mode is Mode.MASK
    assert book.policy("globex").patterns[0].name == "BADGE"
    assert read_guards(None).policy("acme").mode is Mode.OFF
    file.write_text("tenants: {acme: {mode: mask, kind: [email]}}")
    with pytest.raises(ValidationError, match=r"tenants\.acme\.kind"):
        read_guards(file)


async def test_the_wired_service_routes_by_the_meters_prices(
    database: Database, sandbox_process: str
) -> None:
    """``cheapest`` and a hedge's cap ask the book that calls are reserved by."""
    wired = composed(database, sandbox_process)
    assert isinstance(wired.deps.prices, Tariff)
    await wired.deps.prices.require()
    await wired.close()
