"""Use case: answer a completion, if its rate limits allow it."""

from collections.abc import Sequence

import telemetry
from ai_broker.domain import estimation
from ai_broker.domain.quota import Bound, Verdict
from ai_broker.handlers.caller import Caller
from ai_broker.handlers.desk import Desk
from ai_broker.handlers.flights import complete_once
from ai_broker.ports.rates import Rates
from contracts.completions import CompletionRequest
from contracts.frames import Failed, Finished, Opened
from contracts.problems import Code, ErrorEnvelope, problem
from contracts.rates import Measure
from faults import TransientFault
from messaging.subscriptions import FrameBody, FrameSink

log = telemetry.get_logger()


async def admit(
    request: CompletionRequest, sink: FrameSink, desk: Desk, rates: Rates
) -> None:
    """
    Answer with frames, once every limit has counted the call.

    A call that is refused is counted by none. Its tokens are counted by estimate and
    corrected by what it used. Limits that cannot be asked let the call pass: they keep
    order, and are no money.
    """
    bounds = rates.file.now().bounds(request, lambda: estimation.unheard(request).total)
    if not bounds:
        await complete_once(request, sink, desk)
        return
    holder = desk.deps.ids.new("call")
    try:
        verdict = await rates.quotas.admit(bounds, holder)
    except TransientFault:
        telemetry.metrics.rate_limits_skipped_total.add(1, step="admit")
        await complete_once(request, sink, desk)
        return
    if verdict.refused_by is not None:
        await _refuse(request, sink, desk, verdict, verdict.refused_by)
        return
    call = _Call(sink, verdict, bounds, holder, rates, desk)
    try:
        await complete_once(request, call, desk)
    finally:
        await call.settle(None)


async def _refuse(
    request: CompletionRequest,
    sink: FrameSink,
    desk: Desk,
    verdict: Verdict,
    bound: Bound,
) -> None:
    telemetry.metrics.rate_limited_total.add(
        1, kind=bound.kind.value, measure=bound.measure.value
    )
    is_place = bound.measure is Measure.CONCURRENT
    what = "calls at once" if is_place else f"{bound.measure} per minute"
    wait_s = verdict.wait_us / 1_000_000
    detail = (
        f"{bound.kind} {bound.id} may have {bound.limit} {what}: ask again in "
        f"{wait_s:.1f} s"
    )
    envelope = ErrorEnvelope(
        problem=problem(Code.RATE_LIMITED, detail),
        retryable=True,
        retry_after_s=wait_s,
        rates=verdict.standings,
    )
    caller = Caller(request, sink)
    await caller.opened(desk.deps.instance)
    await caller.end(Failed(error=envelope))


class _Call:
    """
    Passes an admitted call's frames on, with its limits' standing in front.

    What it used is counted before its end is told: whoever asks again at once must
    find the place free.
    """

    def __init__(
        self,
        sink: FrameSink,
        verdict: Verdict,
        bounds: Sequence[Bound],
        holder: str,
        rates: Rates,
        desk: Desk,
    ) -> None:
        self._sink = sink
        self._standings = verdict.standings
        self._bounds = bounds
        self._holder = holder
        self._quotas = rates.quotas
        self._began = desk.deps.clock.now()
        self._is_settled = False

    async def send(self, frame: FrameBody) -> None:
        """Send it on."""
        match frame:
            case Opened():
                frame = frame.model_copy(update={"rates": self._standings})
            case Finished() | Failed():
                await self.settle(self._used(frame))
            case _:
                pass
        await self._sink.send(frame)

    async def settle(self, tokens: int | None) -> None:
        """Free the place and correct the tokens, once; None leaves the estimate."""
        if self._is_settled:
            return
        self._is_settled = True
        if tokens is None:
            costs = (each.cost for each in self._bounds)
            tokens = max(costs, default=0)
        try:
            await self._quotas.settle(self._bounds, self._holder, tokens)
        except TransientFault:
            telemetry.metrics.rate_limits_skipped_total.add(1, step="settle")

    def _used(self, end: Finished | Failed) -> int:
        """Return the tokens of the vendor calls; a stored answer made none now."""
        attempts = end.attempts if isinstance(end, Failed) else end.completion.attempts
        if isinstance(end, Finished):
            answer = end.completion
            if answer.is_cached or answer.created_at < self._began:
                return 0
        return sum(each.usage.total for each in attempts)
