"""One vendor's model as this process knows it, and the calls that are on their way."""

from collections.abc import Mapping
from typing import Final

import telemetry
from ai_broker.domain import breaker as breakers
from ai_broker.domain import pacing
from ai_broker.domain.breaker import Breaker, Event, State
from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.latency import Latency
from ai_broker.domain.vendor import Failure
from ai_broker.domain.verdict import RATE_LIMITED, Again, Verdict, retry_after_s
from determinism import Clock, IdSource

BLOCK_S: Final = 1.0
"""How long a rate limit closes the way when nothing says for how long."""

log = telemetry.get_logger()


class Line:
    """
    The current breaker, pace and latency; each is replaced, never changed.

    Args:
        candidate: Whose.
        clock: The time.
        ids: Draws, so that replicas do not probe at once.
    """

    def __init__(self, candidate: Candidate, clock: Clock, ids: IdSource) -> None:
        limits = candidate.limits
        self._candidate = candidate
        self._ids = ids
        self.clock = clock
        self.pace = pacing.limited(
            limits.requests_per_minute, limits.tokens_per_minute, clock.now()
        )
        self.breaker = Breaker()
        self.latency = Latency()
        self.in_flight = 0

    def admit(self, tokens: int) -> "Ticket":
        """Note that a call is about to be made; its ticket must be ended."""
        self.tell(Event.ADMITTED, self.breaker.epoch)
        self.pace = pacing.sent(self.pace, tokens, self.clock.now())
        self.in_flight += 1
        return Ticket(self, tokens)

    def tell(self, event: Event, epoch: int) -> None:
        """Tell the breaker; say aloud when it changes."""
        before, now = self.breaker, self.clock.now()
        draw = self._ids.uniform()
        self.breaker = breakers.follow(before, event, epoch, now, draw)
        state = self.breaker.state
        if state is before.state:
            return
        labels = {"vendor": self._candidate.vendor, "model": self._candidate.model}
        if not self._candidate.own_key:
            # A tenant's own key must not paint over the platform's series.
            telemetry.metrics.ai_breaker_state.set(breakers.LEVEL[state], **labels)
        pause_s = breakers.refuses_for_s(self.breaker, now)
        report = log.warning if state is State.OPEN else log.info
        report(
            "breaker_changed",
            **labels,
            state=state.value,
            was=before.state.value,
            own_key=self._candidate.own_key,
            openings=self.breaker.openings,
            pause_s=None if pause_s is None else round(pause_s, 3),
        )


class Ticket:
    """One call on its way: what it meets is told here, and its end once."""

    def __init__(self, line: Line, tokens: int) -> None:
        self._line = line
        self._tokens = tokens
        self._began_at = line.clock.now()
        self._epoch = line.breaker.epoch
        self._is_probe = line.breaker.state is State.HALF_OPEN
        self._is_heard = False
        self._is_judged = False
        self._is_over = False

    def heard(self, headers: Mapping[str, str]) -> None:
        """Note the vendor's limits, which count this call; only once."""
        if not self._is_heard:
            self._is_heard = True
            line = self._line
            line.pace = pacing.told(line.pace, self._tokens, headers, line.clock.now())

    def began(self) -> None:
        """Note the first token, which is all that a probe has to prove."""
        line = self._line
        line.latency = line.latency.began(self._gone_s(), line.clock.now())
        if self._is_probe:
            self._judge(Event.WELL)

    def answered(self) -> None:
        """End it: the answer is whole."""
        if not self._is_over:
            line = self._line
            line.latency = line.latency.ended(self._gone_s(), line.clock.now())
            self._end(Event.WELL)

    def failed(self, failure: Failure, verdict: Verdict) -> None:
        """End it: the vendor failed."""
        if self._is_over:
            return
        line, now = self._line, self._line.clock.now()
        self.heard(failure.headers)
        event = breakers.symptom(failure, verdict)
        if event is Event.SICK:
            line.latency = line.latency.failed(self._gone_s(), now)
        if failure.status == RATE_LIMITED:
            asked_s = retry_after_s(failure.headers, now) or BLOCK_S
            block_s = verdict.delay_s if isinstance(verdict, Again) else asked_s
            line.pace = pacing.blocked(line.pace, block_s, now)
        self._end(event)

    def release(self) -> None:
        """End it without a result: it was never made, or we ended it."""
        if not self._is_over:
            self._end(Event.NEUTRAL)

    def _end(self, event: Event) -> None:
        self._is_over = True
        self.heard({})
        self._line.in_flight -= 1
        self._judge(event)

    def _judge(self, event: Event) -> None:
        if not self._is_judged:
            self._is_judged = True
            self._line.tell(event, self._epoch)

    def _gone_s(self) -> float:
        return (self._line.clock.now() - self._began_at).total_seconds()
