"""Prompts, answers and keys reach neither logs nor traces, whatever a vendor says."""

import asyncio
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
from recorded import client
from silent_bus import SilentBus

from ai_broker.app import Composed, compose
from ai_broker.domain.catalogue import Candidate, Protocol, VendorEntry
from ai_broker.domain.guard.policy import GuardPolicy, Mode
from ai_broker.domain.guard.request import Guarded, guard
from ai_broker.settings import Settings
from contracts import subjects
from contracts.completions import CompletionRequest, TextPart
from contracts.problems import Code
from determinism import SeededIds, SystemClock
from messaging.bus import Bus, Delivery
from messaging.subscriptions import AnswerInFrames
from persistence.database import Database
from telemetry import Telemetry, configure
from telemetry.logs import configure_logs, silence

PROMPT, ANSWER, KEY = "sesame-prompt-4711", "sesame-answer-4712", "sesame-key-4713"
LOGGERS = ("openai", "httpx", "httpx2", "httpcore", "aiohttp")


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
    loggers = [logging.getLogger(name) for name in ("", *LOGGERS)]
    before = [(each, each.level, each.handlers[:]) for each in loggers]
    for each in loggers:
        each.setLevel(logging.DEBUG)
    logs, trace_file = io.BytesIO(), tmp_path / "spans.jsonl"
    running = configure(
        "ai-broker", "broker-1", log_level="DEBUG", trace_file=trace_file
    )
    configure_logs("ai-broker", "broker-1", "DEBUG", logs)
    yield Written(running, logs, trace_file)
    running.shutdown()
    silence()
    # Other tests of this process read standard output, where logs would go.
    for each, level, handlers in before:
        each.setLevel(level)
        each.handlers[:] = handlers


def chunk(**fields: object) -> bytes:
    """Spell one event of a stream."""
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


async def echo(stream: web.StreamResponse, body: str) -> None:
    """Say what was read, so that nobody restores it, then say it again in pieces."""
    read: str = json.loads(body)["messages"][0]["content"]
    seen = read.replace("_", "-")
    said = f"seen: {seen}; told: {read}"
    for at in range(0, len(said), 7):
        delta = {"content": said[at : at + 7]}
        await stream.write(chunk(model="m", choices=[{"delta": delta}]))


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
    if mode == "echo":
        await echo(stream, body)
    delta = {"content": f"{ANSWER} {PROMPT}" if mode != "echo" else ""}
    await stream.write(chunk(model="m", choices=[{"delta": delta}]))
    if mode == "reported":
        await stream.write(chunk(error={"message": told[-400:], "code": "x"}))
    if mode == "garbage":
        await stream.write(b"data: {" + told.encode() + b"\n\n")
    if mode == "surprise":
        await stream.write(chunk(usage={"prompt_tokens": told}, choices=[]))
    if mode in ("whole", "echo"):
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


def wired(database: Database, url: str, guards: Path | None = None) -> Composed:
    """Wire the service to the vendor that quotes."""
    environment = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": url}
    return compose(
        settings=Settings(
            database_url="sqlite://",
            vendor_environment=environment,
            guard_file=guards,
        ),
        database=database,
        bus=cast("Bus", SilentBus()),  # cast: only the outbox relay would send
        clock=SystemClock(),
        ids=SeededIds(1),
        aside=asyncio.to_thread,
    )


async def ask(service: Composed, mode: str, text: str = PROMPT) -> Sink:
    """Ask once, in the mode that the model's name stands for."""
    fields = {
        "completion_id": f"c-{mode}",
        "tenant": "acme",
        "model": f"openai/{mode}",
        "turns": [{"role": "user", "parts": [{"kind": "text", "text": text}]}],
        "deadline": SystemClock().now() + timedelta(seconds=20),
        "deltas": mode in ("whole", "echo"),
    }
    (found,) = (
        each
        for each in service.runnable.subscriptions
        if isinstance(each, AnswerInFrames) and each.verb == subjects.COMPLETE
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
    assert '"server.address"' in spans
    for secret in (PROMPT, ANSWER, KEY):
        assert secret not in logs
        assert secret not in spans
    told = "" if code is None else sink.failed.error.problem.detail
    assert KEY not in told
    if mode in ("400", "reported"):
        assert ANSWER in told


MAIL, PHONE = "zhang.san@example.com", "13812345678"


@pytest.mark.parametrize("spoken", list(Protocol))
def test_no_vendors_form_of_a_guarded_request_holds_personal_data(
    spoken: Protocol,
) -> None:
    """The last form before the wire, of both protocols."""

    def text(said: str) -> list[dict[str, str]]:
        return [{"kind": "text", "text": said}]

    arguments = json.dumps({"to": MAIL, "number": int(PHONE)})
    call = {"kind": "tool-call", "call_id": "c", "name": "t", "arguments": arguments}
    result = {"kind": "tool-result", "call_id": "c", "content": text(PHONE)}
    fields = {
        "completion_id": "c",
        "tenant": "acme",
        "model": "m",
        "turns": [
            {"role": "system", "parts": text(MAIL)},
            {"role": "user", "parts": text(PHONE)},
            {"role": "assistant", "parts": [call]},
            {"role": "tool", "parts": [result]},
        ],
        "tools": [{"name": "t", "description": MAIL, "parameters": {"title": PHONE}}],
        "stop": [MAIL],
        "user": MAIL,
        "deadline": SystemClock().now(),
    }
    request = CompletionRequest.model_validate(fields)
    guarded = guard(request, GuardPolicy(mode=Mode.RESTORE))
    assert isinstance(guarded, Guarded)
    vendor = client(VendorEntry(name="v", protocol=spoken), "http://v.example")
    plain, masked = (
        str(vendor.prepare(each, Candidate("v", "m")).body)
        for each in (request, guarded.request)
    )
    for value, placeholder in ((MAIL, "<EMAIL_1>"), (PHONE, "<PHONE_1>")):
        assert value in plain
        assert value not in masked
        assert placeholder in masked


async def test_the_wire_carries_placeholders_and_the_caller_reads_values(
    database: Database, vendor_url: str, tmp_path: Path
) -> None:
    """Settings file, guard, SDK, HTTP and back, large enough to be masked aside."""
    guards = tmp_path / "guard.yaml"
    guards.write_text("tenants: {acme: {mode: mask-and-restore}}")
    service = wired(database, vendor_url, guards)
    try:
        sink = await ask(service, "echo", f"{MAIL} {'and so on ' * 3_000}{PHONE}")
    finally:
        await service.close()
    assert sink.text.startswith("seen: <EMAIL-1> and")
    assert f"told: {MAIL} and" in sink.text
    assert sink.text.endswith(PHONE)
    assert sink.finished.completion.parts == (TextPart(text=sink.text),)
