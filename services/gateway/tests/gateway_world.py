"""Scripted peers, and what the tests of the gateway ask of it."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from contracts.completions import Completion, CompletionRequest
from contracts.embeddings import EmbeddingRequest
from contracts.frames import Finished, Frame, Opened
from contracts.message import Message
from contracts.problems import Code
from contracts.subjects import Address
from contracts.tasks import ListTaskEvents, TaskEventPage, TaskStatus, TaskView
from messaging.bus import Outgoing
from messaging.nats_bus import Heard
from messaging.refusals import refuse

M = TypeVar("M", bound=Message)
Answer = Callable[[Any], Message]

ADMIN = "de_admin_" + "a" * 64
AS_ADMIN = {"authorization": f"Bearer {ADMIN}"}
BODY = {"employee": "invoice-clerk", "goal": "Check letter.txt"}
Headers = dict[str, str]


class Await:
    """Be silent until the caller cancels."""


Act = Frame | Exception | Await
"""What ai-broker does next: send a frame, fail, or be silent."""


class ScriptedFrames:
    """One scripted answer."""

    def __init__(self, acts: Sequence[Act]) -> None:
        self._acts = acts
        self.cancelled = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[Frame]:
        for act in self._acts:
            if isinstance(act, Exception):
                raise act
            if isinstance(act, Await):
                await self.cancelled.wait()
            else:
                yield act

    async def cancel(self) -> None:
        self.cancelled.set()


@dataclass
class ScriptedBus:
    """Answers requests from a table of verbs; its bells are rung by hand."""

    answers: dict[str, Answer] = field(default_factory=dict[str, Answer])
    asked: list[tuple[str, Message]] = field(default_factory=list[tuple[str, Message]])
    published: list[Outgoing] = field(default_factory=list[Outgoing])
    watches: dict[str, list[Heard[Any]]] = field(
        default_factory=lambda: defaultdict[str, list[Heard[Any]]](list)
    )
    instance: str = "gateway_1"
    scripts: list[Sequence[Act]] = field(default_factory=list[Sequence[Act]])
    """What the next completions do, in order."""
    questions: list[CompletionRequest] = field(default_factory=list[CompletionRequest])
    embeddings: list[EmbeddingRequest] = field(default_factory=list[EmbeddingRequest])
    streams: asyncio.Queue[ScriptedFrames] = field(
        default_factory=asyncio.Queue[ScriptedFrames]
    )
    """Their answers, as they are asked for."""

    async def publish(self, outgoing: Outgoing) -> None:
        self.published.append(outgoing)

    async def announce(self, subject: str, message: Message) -> None:
        for heard in self.watches[subject]:
            heard.put(message)

    async def request(
        self, address: Address, request: Message, reply: type[M], *, timeout_s: float
    ) -> M:
        self.asked.append((str(address), request))
        answer = self.answers.get(address.verb.name)
        if answer is None:
            raise refuse(Code.NOT_FOUND, f"nobody scripted {address}")
        found = answer(request)
        assert isinstance(found, reply)
        return found

    @asynccontextmanager
    async def complete(
        self, request: CompletionRequest | EmbeddingRequest
    ) -> AsyncGenerator[ScriptedFrames]:
        if isinstance(request, EmbeddingRequest):
            self.embeddings.append(request)
        else:
            self.questions.append(request)
        frames = ScriptedFrames(self.scripts.pop(0))
        self.streams.put_nowait(frames)
        yield frames

    @asynccontextmanager
    async def watch(
        self, subject: str, message: type[M]
    ) -> AsyncGenerator[AsyncIterator[M]]:
        heard = Heard[M](64)
        self.watches[subject].append(heard)
        try:
            yield heard
        finally:
            self.watches[subject].remove(heard)

    @property
    def watched(self) -> int:
        """How many watches are open."""
        return sum(map(len, self.watches.values()))

    def count(self, verb: str) -> int:
        """How often a verb was asked."""
        return sum(f".{verb}." in address for address, _ in self.asked)


OPENED = Opened(completion_id="cmpl_1", instance="broker_1")


def completion_of(*parts: Any, **more: Any) -> Completion:
    """Return an answer of these parts."""
    fields: dict[str, Any] = {
        "completion_id": "cmpl_1",
        "vendor": "sandbox-openai",
        "model": "sandbox-small",
        "parts": parts,
        "finish_reason": "stop",
        "usage": {"input_tokens": 7, "output_tokens": 5},
        "attempts": [],
        "created_at": "2026-11-23T12:00:00Z",
    }
    return Completion.model_validate(fields | more)


def finished(*parts: Any, **more: Any) -> Finished:
    """Return the end of such an answer."""
    return Finished(completion=completion_of(*parts, **more))


def raising(error: Exception) -> Answer:
    """Return an answer that fails."""

    def answer(_request: object) -> Message:
        raise error

    return answer


def view_of(request: Any, status: str = "running", **more: object) -> TaskView:
    """Return the task that a request asks for."""
    fields = {
        "task_id": request.task_id,
        "tenant": request.tenant,
        "status": status,
        "created_at": "2026-11-23T12:00:00Z",
    }
    return TaskView.model_validate(fields | more)


def history_of(count: int, status: TaskStatus) -> Answer:
    """Return the answers of a history with this many events."""

    def answer(request: ListTaskEvents) -> TaskEventPage:
        seqs = range(request.after + 1, min(count, request.after + request.limit) + 1)
        events = [
            {"seq": seq, "type": "step.started", "at": "2026-11-23T12:00:00Z"}
            for seq in seqs
        ]
        return TaskEventPage.model_validate(
            {"events": events, "status": status, "last_seq": count}
        )

    return answer


async def tenant_headers(client: httpx.AsyncClient, tenant: str) -> Headers:
    """Make a tenant and return the headers of its key."""
    made = await client.post("/v1/tenants", json={"tenant": tenant}, headers=AS_ADMIN)
    assert made.status_code == 201, made.text
    return {"authorization": f"Bearer {made.json()['api_key']}"}
