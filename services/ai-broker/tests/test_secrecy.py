"""Prompts, answers and keys reach neither logs nor traces, whatever a vendor says."""

import io
import json
import logging
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
from aiohttp import web
from broker_world import Sink

from ai_broker.app import Composed, compose
from ai_broker.settings import Settings
from contracts.completions import CompletionRequest
from contracts.problems import Code
from determinism import SeededIds, SystemClock
from messaging.bus import Bus, Delivery
from messaging.subscriptions import AnswerInFrames
from persistence.database import Database
from telemetry import Telemetry, configure
from telemetry.logs import configure_logs, silence

PROMPT, ANSWER, KEY = "sesame-prompt-4711", "sesame-answer-4712", "sesame-key-4713"
LOGGERS = ("openai", "httpx", "httpx2", "httpcore", "aiohttp")


class SilentBus:
    """Sends nothing: these tests look at what is written."""

    instance = "broker-1"

    def on_reconnect(self, callback: object) -> None:
        return


@dataclass
class Written:
    """Everything that telemetry let out."""

    running: Telemetry
    logs: io.BytesIO
    trace_file: Path

    def lines(self) -> str:
        self.running.flush()
        return self.logs.getvalue().decode()

    def spans(self) -> str:
        self.running.flush()
        return self.trace_file.read_text()


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    """Write logs at their most talkative, and every span."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.DEBUG)
    logs, trace_file = io.BytesIO(), tmp_path / "spans.jsonl"
    running = configure(
        "ai-broker", "broker-1", log_level="DEBUG", trace_file=trace_file
    )
    configure_logs("ai-broker", "broker-1", "DEBUG", logs)
    yield Written(running, logs, trace_file)
    running.shutdown()
    silence()


def chunk(**fields: object) -> bytes:
    """Spell one event of a stream."""
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


async def quote(request: web.Request) -> web.StreamResponse:
    """Answer as the model's name says, quoting prompt and key wherever it can."""
    body = await request.text()
    told = f"{body} {request.headers['Authorization']} {ANSWER}"
    mode = json.loads(body)["model"]
    if mode.isdigit():
        error = {"message": told[-400:], "type": told[-400:], "code": None}
        return web.json_response({"error": error}, status=int(mode))
    stream = web.StreamResponse(headers={"x-request-id": "req-1"})
    await stream.prepare(request)
    delta = {"content": f"{ANSWER} {PROMPT}"}
    await stream.write(chunk(model="m", choices=[{"delta": delta}]))
    if mode == "reported":
        await stream.write(chunk(error={"message": told[-400:], "code": "x"}))
    if mode == "garbage":
        await stream.write(b"data: {" + told.encode() + b"\n\n")
    if mode == "surprise":
        await stream.write(chunk(usage={"prompt_tokens": told}, choices=[]))
    if mode == "whole":
        end = [{"delta": {"content": ""}, "finish_reason": "stop"}]
        await stream.write(chunk(model="m", choices=end))
        await stream.write(b"data: [DONE]\n\n")
    await stream.write_eof()
    return stream


@pytest.fixture
async def vendor_url() -> AsyncGenerator[str]:
    """Run a vendor that quotes."""
    app = web.Application()
    app.router.add_post("/v1/chat/completions", quote)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}/v1"
    finally:
        await runner.cleanup()


def wired(database: Database, url: str) -> Composed:
    """Wire the service to the vendor that quotes."""
    environment = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": url}
    return compose(
        settings=Settings(database_url="sqlite://", vendor_environment=environment),
        database=database,
        bus=cast("Bus", SilentBus()),  # cast: only the outbox relay would send
        clock=SystemClock(),
        ids=SeededIds(1),
    )


async def ask(service: Composed, mode: str) -> Sink:
    """Ask once, in the mode that the model's name stands for."""
    fields = {
        "completion_id": f"c-{mode}",
        "tenant": "acme",
        "model": f"openai/{mode}",
        "turns": [{"role": "user", "parts": [{"kind": "text", "text": PROMPT}]}],
        "deadline": SystemClock().now() + timedelta(seconds=20),
        "deltas": mode == "whole",
    }
    (found,) = (
        each
        for each in service.runnable.subscriptions
        if isinstance(each, AnswerInFrames)
    )
    sink = Sink()
    delivery = Delivery("svc.ai-broker.stable.complete.acme", "m-1", "acme")
    await found.answer(CompletionRequest.model_validate(fields), delivery, sink)
    return sink


@pytest.mark.parametrize(
    ("mode", "code"),
    [
        ("whole", None),
        ("400", Code.INVALID),
        ("404", Code.VENDOR_UNAVAILABLE),
        ("401", Code.VENDOR_UNAVAILABLE),
        ("422", Code.INVALID),
        ("reported", Code.VENDOR_UNAVAILABLE),
        ("garbage", Code.VENDOR_UNAVAILABLE),
        ("surprise", Code.VENDOR_UNAVAILABLE),
        ("cut", Code.VENDOR_UNAVAILABLE),
    ],
)
async def test_no_line_and_no_span_quotes_anybody(
    database: Database, vendor_url: str, written: Written, mode: str, code: Code | None
) -> None:
    """The caller is told what the vendor said, without the key; nobody else is."""
    service = wired(database, vendor_url)
    try:
        sink = await ask(service, mode)
    finally:
        for vendor in service.deps.vendors.values():
            await vendor.close()
    if code is None:
        assert sink.text == f"{ANSWER} {PROMPT}"
    else:
        assert sink.code is code
    logs, spans = written.lines(), written.spans()
    assert '"event":"attempt_ended"' in logs
    assert f"chat {mode}" in spans
    for secret in (PROMPT, ANSWER, KEY):
        assert secret not in logs
        assert secret not in spans
    told = "" if code is None else sink.failed.error.problem.detail
    assert KEY not in told
    if mode in ("400", "reported"):
        assert ANSWER in told
