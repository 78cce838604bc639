"""A real vendor process goes dark: real SDKs, real HTTP, real breaker."""

from collections import Counter
from datetime import timedelta

import aiohttp
from broker_world import Sink
from sqlalchemy import select
from test_app import composed, frames_of

from ai_broker.adapters.tables import SHARED
from ai_broker.handlers import tell
from contracts.completions import ChatTurn, CompletionRequest, Role, TextPart
from contracts.usage import EndState, UsageBatch
from determinism import SystemClock
from messaging.bus import Delivery
from persistence.database import Database

DELIVERY = Delivery("svc.ai-broker.stable.complete.acme", "m-1", "acme")
DARK = [{"match": {"protocol": "openai"}, "fault": "unavailable_503"}]
RECOVERY_S = 30.0


async def test_a_dark_vendor_is_left_and_found_again(
    database: Database, sandbox: aiohttp.ClientSession, sandbox_process: str
) -> None:
    """Nobody sees an error; both ledgers agree on every call, the refused ones too."""
    wired = composed(database, sandbox_process)
    listens, clock = wired.runnable.subscriptions, SystemClock()

    async def ask(name: str) -> str:
        request = CompletionRequest(
            completion_id=name,
            tenant="acme",
            model="smart",
            turns=(ChatTurn(role=Role.USER, parts=(TextPart(text="Hello there"),)),),
            deadline=clock.now() + timedelta(seconds=60),
        )
        sink = Sink()
        await frames_of(listens).answer(request, DELIVERY, sink)
        return sink.finished.completion.vendor

    try:
        assert await ask("before") == "sandbox-openai"
        (await sandbox.put("/sandbox/faults", json=DARK)).close()
        dark = Counter([await ask(f"dark:{number}") for number in range(12)])
        assert dark == {"sandbox-anthropic": 12}

        (await sandbox.put("/sandbox/faults", json=[])).close()
        give_up, number = clock.monotonic() + RECOVERY_S, 0
        while await ask(f"after:{number}") != "sandbox-openai":
            assert clock.monotonic() < give_up, "the breaker never probed"
            number += 1
        assert await ask("again") == "sandbox-openai"
    finally:
        for vendor in wired.deps.vendors.values():
            await vendor.close()

    while await tell(wired.deps):
        pass
    bodies = await database.read(
        lambda conn: conn.scalars(select(SHARED.outbox.c.body)).all()
    )
    batches = [UsageBatch.model_validate_json(each) for each in bodies]
    records = [record for batch in batches for record in batch.records]
    refused = [each for each in records if each.end_state is EndState.FAILED]
    assert 1 <= len(refused) <= 8, "the breaker spared the dark vendor"
    async with sandbox.get("/sandbox/ledger", params={"limit": "10000"}) as reply:
        rows = (await reply.json())["rows"]
    booked = {each["client_request_id"] for each in rows}
    assert booked == {each.attempt_id for each in records}
    tokens = sum(each["input_tokens"] + each["output_tokens"] for each in rows)
    assert tokens == sum(each.usage.total for each in records)
