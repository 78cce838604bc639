"""
Ask ai-broker for an answer, and tell it on as it comes.

Until content has been told, a cut or an absent broker is asked again under the same
completion id: it joins the call under way, or gives the stored answer, so nothing is
paid twice. Afterwards a cut is an error, never a second answer behind half of one.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Final

import telemetry
from contracts.completions import Completion, CompletionRequest
from contracts.embeddings import EmbeddingRequest
from contracts.frames import (
    Answerer,
    Failed,
    Finished,
    Opened,
    Ping,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    VectorsDelta,
)
from contracts.problems import Code, ErrorEnvelope, problem
from contracts.rates import RateStanding
from determinism import backoff_s
from faults import Fault, TransientFault
from gateway.ports import Deps
from messaging.bus import FrameStream
from messaging.envelopes import envelope_of

log = telemetry.get_logger()

ASKS_MAX: Final = 5
AGAIN_FIRST_S: Final = 0.1
AGAIN_CAP_S: Final = 2.0
AGAIN: Final = frozenset({Code.STREAM_CUT, Code.UNAVAILABLE})
"""What asking again under the same id can cure."""
PASSING: Final = frozenset({*AGAIN, Code.OVERLOADED, Code.DEADLINE, Code.RATE_LIMITED})
"""What a later request may not meet again."""

Piece = TextDelta | ReasoningDelta | ToolCallDelta | Ping
Tell = Callable[[Piece], Awaitable[None]]
"""Sends one piece to the reader; waits while the reader is slow."""


class Asking:
    """
    One question, from its asking to its end.

    Args:
        request: What is asked; its deadline ends the waiting.
        deps: Ports.
    """

    def __init__(
        self, request: CompletionRequest | EmbeddingRequest, deps: Deps
    ) -> None:
        self._request = request
        self._deps = deps
        self._stream: FrameStream | None = None
        self._is_told = False
        self._is_given_up = False
        self.rates: tuple[RateStanding, ...] | None = None
        """The rate limits that the question was held to, as far as it is known."""
        self.answerer: Answerer | None = None
        """Who answers, once something of the answer is told."""

    async def run(self, tell: Tell) -> Completion | ErrorEnvelope:
        """Ask until there is an answer, or a reason why there is none."""
        tries = 0
        while True:
            tries += 1
            outcome = await self._ask_once(tell)
            if isinstance(outcome, Completion):
                return outcome
            wait_s = self._wait_s(outcome, tries)
            if wait_s is None:
                return outcome
            log.info(
                "completion_asked_again",
                completion_id=self._request.completion_id,
                tries=tries,
                code=outcome.problem.code.value,
            )
            await self._deps.clock.sleep(wait_s)

    async def give_up(self) -> None:
        """Tell ai-broker that the reader left; ``run`` then ends by itself."""
        self._is_given_up = True
        if self._stream is not None:
            with suppress(Fault):
                # A cancel that gets lost costs money, not correctness.
                await self._stream.cancel()

    async def _ask_once(self, tell: Tell) -> Completion | ErrorEnvelope:
        try:
            async with self._deps.peers.complete(self._request) as stream:
                self._stream = stream
                return await self._follow(stream, tell)
        except Fault as fault:
            envelope = envelope_of(fault)
            passes = envelope.problem.code in PASSING
            return envelope.model_copy(update={"retryable": passes})
        finally:
            self._stream = None

    async def _follow(
        self, stream: FrameStream, tell: Tell
    ) -> Completion | ErrorEnvelope:
        vectors: dict[int, bytes] = {}
        async for frame in stream:
            match frame:
                case Finished():
                    return self._whole(frame.completion, vectors)
                case VectorsDelta():
                    vectors.update(enumerate(frame.vectors, frame.first))
                case Failed():
                    return frame.error
                case Opened():
                    self.rates = frame.rates
                    if self._is_given_up:
                        await stream.cancel()
                case Ping():
                    await tell(frame)
                case TextDelta() | ReasoningDelta() | ToolCallDelta():
                    self._is_told = True
                    self.answerer = self.answerer or frame.by
                    await tell(frame)
        # The bus promises one of the two ends; without one the stream was cut.
        detail = "the answer ended without its end; ask again"
        raise TransientFault(detail, code=Code.STREAM_CUT)

    def _whole(
        self, completion: Completion, vectors: Mapping[int, bytes]
    ) -> Completion:
        """Return the answer with the vectors that came before its end."""
        if not isinstance(self._request, EmbeddingRequest):
            return completion
        count = len(self._request.inputs)
        if set(vectors) != set(range(count)):
            detail = f"{len(vectors)} vectors came for {count} texts; ask again"
            raise TransientFault(detail, code=Code.STREAM_CUT)
        in_order = tuple(vectors[place] for place in range(count))
        return completion.model_copy(update={"vectors": in_order})

    def _wait_s(self, missed: ErrorEnvelope, tries: int) -> float | None:
        """Return when to ask again; None when the reader must be told."""
        cures = missed.retryable and missed.problem.code in AGAIN
        if not cures or self._is_told or self._is_given_up or tries >= ASKS_MAX:
            return None
        own_s = backoff_s(
            tries,
            first_s=AGAIN_FIRST_S,
            cap_s=AGAIN_CAP_S,
            draw=self._deps.ids.uniform(),
        )
        wait_s = max(own_s, missed.retry_after_s or 0.0)
        left = self._request.deadline - self._deps.clock.now()
        return wait_s if timedelta(seconds=wait_s) < left else None


def broken(envelope: ErrorEnvelope) -> ErrorEnvelope:
    """Return the error of an answer that was begun; a repeat gives another one."""
    if envelope.problem.code in AGAIN:
        detail = f"the answer broke off: {envelope.problem.detail}"
        return ErrorEnvelope(problem=problem(Code.STREAM_CUT, detail), retryable=True)
    return envelope
