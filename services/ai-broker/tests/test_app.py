"""The wired service on a real sandbox: its subjects, its models, its first answer."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from broker_world import Sink
from pydantic import ValidationError
from sqlalchemy import select

from ai_broker.adapters.tables import SHARED
from ai_broker.app import Composed, compose, read_guards
from ai_broker.domain.guard.policy import Mode
from ai_broker.settings import Settings
from contracts import subjects
from contracts.completions import ChatTurn, CompletionRequest, Role, TextPart
from contracts.models import ListModels, ModelPage
from contracts.usage import UsageBatch
from determinism import SeededIds, SystemClock
from messaging.bus import Bus, Delivery
from messaging.subscriptions import Answer, AnswerInFrames, Hear, Subscription
from persistence.database import Database


class SilentBus:
    """Sends nothing: these tests look at what is owed."""

    instance = "broker-1"

    def on_reconnect(self, callback: object) -> None:
        return


def composed(database: Database, url: str) -> Composed:
    """Wire the service onto a store and a sandbox, without real keys."""
    settings = Settings(
        database_url="sqlite://", sandbox_url=url, vendor_environment={}
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


def frames_of(listed: Sequence[Subscription]) -> AnswerInFrames[Any]:
    """Find the subscription of completions."""
    (found,) = (each for each in listed if isinstance(each, AnswerInFrames))
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
    bodies = await database.read(
        lambda conn: conn.scalars(select(SHARED.outbox.c.body)).all()
    )
    records = [UsageBatch.model_validate_json(each).records[0] for each in bodies]
    async with sandbox.get("/sandbox/ledger") as reply:
        rows = (await reply.json())["rows"]
    booked = {
        each["client_request_id"]: each["input_tokens"] + each["output_tokens"]
        for each in rows
    }
    assert booked == {each.attempt_id: each.usage.total for each in records}
    for vendor in wired.deps.vendors.values():
        await vendor.close()


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
    (hear,) = (each for each in listens if isinstance(each, Hear))
    assert hear.subject == "svc.ai-broker.broker-1.cancel"


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
