"""Whatever happens to a tenant's key, no log, trace, answer or record has it."""

import io
import logging
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import structlog
from broker_world import DONE, GOOD, ScriptedVendor, World, play

import telemetry
from ai_broker.domain.vendor import Failure, FailureKind
from ai_broker.handlers import put_credential, remove_credential, rewrap
from contracts.credentials import PutCredential, RemoveCredential
from messaging.envelopes import envelope_of
from messaging.refusals import Refused
from telemetry.logs import configure_logs

# No prefix that the logs' own masking knows: nothing may rely on that.
KEY = "0123456789abcdef-fedcba9876543210"
QUOTED = Failure(FailureKind.REFUSED, f"bad key {KEY}", 400, KEY, {}, KEY)


@pytest.fixture
def told(tmp_path: Path) -> Generator[Callable[[], str]]:
    """Collect every log line and every span; the call ends that and gives them."""
    lines, spans = io.BytesIO(), tmp_path / "spans.jsonl"
    handlers = logging.getLogger().handlers
    running = telemetry.configure("ai-broker", "broker_1", trace_file=spans)
    configure_logs("ai-broker", "broker_1", "DEBUG", lines)

    def ended() -> str:
        running.shutdown()
        return lines.getvalue().decode() + spans.read_text()

    yield ended
    running.shutdown()
    structlog.reset_defaults()
    logging.getLogger().handlers = handlers


def test_nobody_is_told_a_key(told: Callable[[], str]) -> None:
    """Put, used, quoted by its vendor, unopened, sealed anew, refused and removed."""
    heard: list[str] = []

    async def scene(world: World) -> None:
        desk = world.replica("a")
        asked = {"tenant": "acme", "vendor": "third", "key": KEY}
        put = PutCredential.model_validate(asked)
        heard.append(repr(put) + str(put) + str(put.model_dump()))
        heard.append(repr(await put_credential(put, desk.deps)))
        world.keyed[KEY] = ScriptedVendor(world.clock, [[*GOOD, DONE], [QUOTED]])
        for name in ("1", "2"):
            sink = await world.ask(desk, completion_id=name, model="third/model-3")
            heard.extend(frame.model_dump_json() for frame in sink.frames)
        world.keks = [bytes(range(32)), *world.keks]
        assert await rewrap(world.replica("b").deps) == 1
        world.keks = []
        unopened = world.replica("c")
        sink = await world.ask(unopened, completion_id="3", model="third/model-3")
        heard.extend(frame.model_dump_json() for frame in sink.frames)
        for bad in (asked, asked | {"vendor": "?"}, asked | {"key": KEY * 99}):
            try:
                request = PutCredential.model_validate(bad)
                await put_credential(request, unopened.deps)
            except (ValueError, Refused) as error:
                heard.append(repr(envelope_of(error)) + str(error) + repr(error))
        await remove_credential(
            RemoveCredential(tenant="acme", vendor="third"), desk.deps
        )
        heard.extend(each.model_dump_json() for each in await world.ledger())
        heard.append(repr(desk.deps))

    play(scene)
    heard.append(told())
    everything = "".join(heard)
    for sign in ("vendor_key_not_opened", "vendor_keys_rewrapped", "[key]", "chat "):
        assert sign in everything, "what must not tell the key was not even told"
    assert KEY not in everything
