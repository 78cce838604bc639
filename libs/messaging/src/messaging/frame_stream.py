"""
A completion's answer as its caller reads it.

All completions of a process share one inbox subscription, made before the first
request goes out; the last token of the inbox tells which one a frame belongs to.
A frame is decoded as it arrives, so that a cancel reaches the replica even when
nobody reads any more, and each reader has its own bounded buffer, so that a slow
one loses its own stream and not its neighbours'.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from nats.aio.msg import Msg
from pydantic import ValidationError

from contracts import headers as names
from contracts.completions import CompletionRequest
from contracts.embeddings import EmbeddingRequest
from contracts.frames import FRAME, CancelCompletion, Failed, Finished, Frame, Opened
from contracts.problems import Code, ErrorEnvelope, problem
from contracts.subjects import COMPLETE, EMBED, cancel_completion
from determinism import Clock
from faults import DeadlineExceeded, Fault, TransientFault
from messaging.answering import subscribe_core
from messaging.connection import Connection
from messaging.crew import Crew
from messaging.limits import BusLimits
from messaging.router import Router
from telemetry import carrier, get_logger

log = get_logger()

NO_RESPONDERS: Final = "503"
LINGERING_MAX: Final = 1024


class NatsFrameStream:
    """
    One answer: a bounded buffer between the inbox and its reader.

    Args:
        request: What was asked; its deadline ends the waiting.
        clock: For deadline and silence.
        limits: The idle limit and the buffer's bound.
        send_cancel: Tells a replica that the caller gave up.
    """

    def __init__(
        self,
        request: CompletionRequest | EmbeddingRequest,
        *,
        clock: Clock,
        limits: BusLimits,
        send_cancel: Callable[[str], Awaitable[None]],
    ) -> None:
        self._request = request
        self._clock = clock
        self._limits = limits
        self._send_cancel = send_cancel
        self._frames: deque[Frame] = deque()
        self._fault: TransientFault | None = None
        self._arrived = asyncio.Event()
        self._next = 0
        self._instance: str | None = None
        self._wants_cancel = False
        self._is_ended = False

    @property
    def owes_cancel(self) -> bool:
        """Return whether a cancel waits for the frame that names the replica."""
        return self._wants_cancel and self._instance is None and not self._is_over

    @property
    def _is_over(self) -> bool:
        return self._is_ended or self._fault is not None

    async def __aiter__(self) -> AsyncIterator[Frame]:
        """Yield frames in order, pings included, up to the end."""
        while True:
            while self._frames:
                frame = self._frames.popleft()
                yield frame
                if isinstance(frame, Finished | Failed):
                    return
            if self._fault is not None:
                raise self._fault
            if self._is_ended:
                return
            await self._wait()

    async def cancel(self) -> None:
        """Tell the answering replica that the caller gave up; idempotent."""
        if self._wants_cancel or self._is_ended:
            return
        self._wants_cancel = True
        if self._instance is not None:
            await self._send_cancel(self._instance)

    async def accept(self, body: bytes) -> None:
        """Take one frame from the inbox."""
        if self._is_over:
            return
        try:
            frame = FRAME.validate_json(body)
        except ValidationError:
            self.fail(self._cut(f"frame {self._next} does not decode"))
            return
        # A second Opened names the replica that took the completion over.
        if isinstance(frame, Opened) and frame.instance != self._instance:
            self._instance = frame.instance
            if self._wants_cancel:
                await self._send_cancel(frame.instance)
        if frame.number != self._next:
            reason = f"frame {frame.number} came where {self._next} was due"
            self.fail(self._cut(reason))
            return
        self._next += 1
        self._is_ended = isinstance(frame, Finished | Failed)
        self._frames.append(frame)
        if len(self._frames) > self._limits.frames_buffered_max:
            self._frames.clear()
            self.fail(self._cut("its reader was too slow"))
        self._arrived.set()

    def accept_error(self, envelope: ErrorEnvelope) -> None:
        """Take an error reply that came instead of frames."""
        said = envelope.problem
        self.fail(
            TransientFault(
                said.detail, code=said.code, retry_after_s=envelope.retry_after_s
            )
        )

    def fail(self, fault: TransientFault) -> None:
        """End the stream by a fault; frames already buffered are read first."""
        if not self._is_over:
            self._fault = fault
        self._arrived.set()

    async def _wait(self) -> None:
        left_s = (self._request.deadline - self._clock.now()).total_seconds()
        limit_s = min(self._limits.idle_limit_s, left_s)
        self._arrived.clear()
        if limit_s > 0:
            try:
                async with asyncio.timeout(limit_s):
                    await self._arrived.wait()
            except TimeoutError:
                pass
            else:
                return
        if left_s <= self._limits.idle_limit_s:
            detail = f"complete {self._request.completion_id}: its deadline passed"
            self._fault = DeadlineExceeded(detail)
        else:
            silent = f"silent for {self._limits.idle_limit_s:g} s"
            self._fault = self._cut(silent)

    def _cut(self, reason: str) -> TransientFault:
        detail = (
            f"complete {self._request.completion_id}: the stream was cut ({reason}); "
            "ask again with the same id"
        )
        return TransientFault(detail, code=Code.STREAM_CUT)


class Completions:
    """
    The caller's side of completions.

    Args:
        connection: Where requests go.
        router: Draws the track.
        clock: For deadlines and silence.
    """

    def __init__(self, connection: Connection, router: Router, clock: Clock) -> None:
        self._connection = connection
        self._router = router
        self._clock = clock
        self._prefix = f"_INBOX.{connection.service}.f-{connection.instance}"
        self._open: dict[str, NatsFrameStream] = {}
        self._count = 0
        self._lingering = Crew(LINGERING_MAX)

    @property
    def size(self) -> int:
        """Return how many completions are being read, or owe a cancel."""
        return len(self._open)

    async def start(self) -> None:
        """Subscribe the shared inbox; returns once the server knows."""
        await subscribe_core(
            self._connection, f"{self._prefix}.*", "", self._on_message
        )

    async def stop(self) -> None:
        """Forget cancels that wait for a replica's name."""
        await self._lingering.cancel()

    @asynccontextmanager
    async def complete(
        self, request: CompletionRequest | EmbeddingRequest
    ) -> AsyncGenerator[NatsFrameStream]:
        """Ask ai-broker; leaving without ``cancel`` lets it finish."""
        self._count += 1
        token = str(self._count)
        stream = NatsFrameStream(
            request,
            clock=self._clock,
            limits=self._connection.limits,
            send_cancel=lambda instance: self._send_cancel(request, instance),
        )
        self._open[token] = stream
        try:
            await self._ask(request, token)
            yield stream
        finally:
            self._close(token, stream)

    async def _ask(
        self, request: CompletionRequest | EmbeddingRequest, token: str
    ) -> None:
        verb = EMBED if isinstance(request, EmbeddingRequest) else COMPLETE
        address = verb.to(request.tenant)
        key = request.task_id or request.completion_id
        headers = {**carrier(), names.TASK_KEY: key}
        await self._connection.publish(
            self._router.subject(address, key),
            request.encode(),
            headers,
            reply=f"{self._prefix}.{token}",
        )

    def _close(self, token: str, stream: NatsFrameStream) -> None:
        if stream.owes_cancel and not self._lingering.is_full:
            self._lingering.start(self._linger(token))
        else:
            self._open.pop(token, None)

    async def _linger(self, token: str) -> None:
        """Keep listening for the frame that says where the cancel must go."""
        try:
            await self._clock.sleep(self._connection.limits.idle_limit_s)
        finally:
            self._open.pop(token, None)

    async def _send_cancel(
        self, request: CompletionRequest | EmbeddingRequest, instance: str
    ) -> None:
        message = CancelCompletion(
            tenant=request.tenant, completion_id=request.completion_id
        )
        try:
            await self._connection.publish(
                cancel_completion(instance), message.encode(), carrier()
            )
        except Fault as error:
            log.warning("cancel_not_sent", error=error.detail)

    async def _on_message(self, msg: Msg) -> None:
        stream = self._open.get(msg.subject.rpartition(".")[2])
        if stream is None:
            return
        headers: Mapping[str, str] = msg.headers or {}
        if headers.get("Status") == NO_RESPONDERS and not msg.data:
            detail = "complete: no ai-broker listens now; retry"
            stream.fail(TransientFault(detail, retry_after_s=0.5))
        elif names.ERROR in headers:
            stream.accept_error(read_envelope(msg.data))
        else:
            await stream.accept(msg.data)


def read_envelope(body: bytes) -> ErrorEnvelope:
    """Read an error reply; one that does not decode is an error all the same."""
    try:
        return ErrorEnvelope.model_validate_json(body)
    except ValidationError:
        detail = "the other side's error reply does not decode; see its log"
        return ErrorEnvelope(problem=problem(Code.INTERNAL, detail))
