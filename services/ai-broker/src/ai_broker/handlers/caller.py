"""One caller's frames: opened once, then deltas, then one end."""

import telemetry
from ai_broker.domain.answer import Delta, deltas_of, vector_deltas
from ai_broker.domain.catalogue import Candidate
from contracts.completions import Completion, CompletionRequest
from contracts.frames import Answerer, Failed, Finished, Opened
from contracts.problems import Code, ErrorEnvelope, problem
from faults import Fault
from messaging.subscriptions import FrameBody, FrameSink

log = telemetry.get_logger()


class Caller:
    """
    The way back to whoever asked.

    A caller that cannot be reached does not stop the work: the answer is stored,
    and asking again is free.
    """

    def __init__(self, request: CompletionRequest, sink: FrameSink) -> None:
        self._request = request
        self._sink = sink
        self._told: str | None = None
        self._gone = False
        self._has_said_who = False

    @property
    def wants_deltas(self) -> bool:
        """Whether content should be sent before the end."""
        return self._request.deltas and not self._gone

    async def opened(self, instance: str) -> None:
        """Say who answers, and again when another took over: cancels go there."""
        if instance != self._told:
            self._told = instance
            opened = Opened(
                completion_id=self._request.completion_id, instance=instance
            )
            await self._send(opened)

    async def delta(self, delta: Delta, by: Candidate | Completion | None) -> None:
        """Send content, if it is wanted; the first piece says who answers."""
        if not self.wants_deltas:
            return
        if by is not None and not self._has_said_who:
            self._has_said_who = True
            delta = delta.model_copy(update={"by": _answerer(by)})
        await self._send(delta)

    async def end(self, end: Finished | Failed) -> None:
        """Send the end, after the vectors if the answer is made of them."""
        if isinstance(end, Finished) and end.completion.vectors:
            for delta in vector_deltas(end.completion.vectors):
                await self._send(delta)
            rest = end.completion.model_copy(update={"vectors": ()})
            end = Finished(completion=rest)
        await self._send(end)

    async def replay(self, answer: Completion, instance: str) -> None:
        """Send a stored answer as if it came now."""
        await self.opened(instance)
        if self.wants_deltas:
            for delta in deltas_of(answer.parts):
                await self.delta(delta, answer)
        await self.end(Finished(completion=answer))

    async def refuse(
        self, code: Code, detail: str, instance: str, *, retryable: bool = False
    ) -> None:
        """Send the end of a completion that was not even begun."""
        await self.opened(instance)
        await self._send(failure(code, detail, retryable=retryable))

    async def _send(self, frame: FrameBody) -> None:
        if self._gone:
            return
        try:
            await self._sink.send(frame)
        except Fault as fault:
            self._gone = True
            log.warning(
                "caller_unreachable",
                completion_id=self._request.completion_id,
                frame=frame.kind,
                detail=fault.detail,
            )


def _answerer(by: Candidate | Completion) -> Answerer:
    is_cached = isinstance(by, Completion) and by.is_cached
    return Answerer(vendor=by.vendor, model=by.model, is_cached=is_cached)


def failure(
    code: Code,
    detail: str,
    *,
    retryable: bool = False,
    retry_after_s: float | None = None,
) -> Failed:
    """Build the frame that says why there is no answer."""
    envelope = ErrorEnvelope(
        problem=problem(code, detail), retryable=retryable, retry_after_s=retry_after_s
    )
    return Failed(error=envelope)
