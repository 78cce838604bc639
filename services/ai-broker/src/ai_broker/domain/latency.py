"""
How slow a vendor's model is: peak EWMA for choosing, quantiles for waiting.

The peak EWMA jumps to a sample that is worse and sinks slowly to one that is better,
so that a vendor that becomes slow is avoided after one call and trusted again after
several. Without samples it sinks to zero: what has not been asked for a while is
asked again. (Finagle's ``PeakEwma``, with a longer memory, as answers take seconds.)

A failed call counts as a slow one, however fast it failed: else a vendor that
refuses everything in a millisecond would look like the fastest of all.
"""

import math
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

MEMORY_S: Final = 30.0
FAILURE_S: Final = 5.0
SAMPLES_KEPT: Final = 64
SAMPLES_MIN: Final = 20
"""Fewer tell nothing about a quantile."""
_BUSY: Final = 1e6
"""Seconds; the load of a call to what has never answered, as in Finagle."""


@dataclass(frozen=True, slots=True)
class PeakEwma:
    """A decaying peak of durations."""

    cost_s: float = 0.0
    at: datetime | None = None

    def sampled(self, duration_s: float, now: datetime) -> "PeakEwma":
        """Return the peak after a sample."""
        if duration_s >= self.cost_s or self.at is None:
            return PeakEwma(duration_s, now)
        weight = self._weight(now)
        return PeakEwma(self.cost_s * weight + duration_s * (1 - weight), now)

    def now_s(self, now: datetime) -> float:
        """Return the peak as it has decayed by now."""
        return self.cost_s * self._weight(now)

    def _weight(self, now: datetime) -> float:
        if self.at is None:
            return 0.0
        return math.exp(-max(0.0, (now - self.at).total_seconds()) / MEMORY_S)


@dataclass(frozen=True, slots=True)
class Latency:
    """What is remembered of one vendor's model."""

    first: PeakEwma = PeakEwma()
    """To the first token."""
    whole: PeakEwma = PeakEwma()
    """To the end."""
    recent: tuple[float, ...] = ()
    """The last times to the first token of calls that gave one, in seconds."""

    def began(self, first_token_s: float, now: datetime) -> "Latency":
        """Return it after a first token."""
        return replace(
            self,
            first=self.first.sampled(first_token_s, now),
            recent=(*self.recent, first_token_s)[-SAMPLES_KEPT:],
        )

    def ended(self, whole_s: float, now: datetime) -> "Latency":
        """Return it after a whole answer."""
        return replace(self, whole=self.whole.sampled(whole_s, now))

    def failed(self, after_s: float, now: datetime) -> "Latency":
        """Return it after a failure."""
        cost_s = max(after_s, FAILURE_S)
        return replace(
            self,
            first=self.first.sampled(cost_s, now),
            whole=self.whole.sampled(cost_s, now),
        )

    def quantile_s(self, share: float) -> float | None:
        """Return a quantile of recent first-token times; None with too few."""
        if len(self.recent) < SAMPLES_MIN:
            return None
        ranked = sorted(self.recent)
        return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


def load(peak: PeakEwma, in_flight: int, now: datetime) -> float:
    """
    Return how dear one more call is, in second-calls.

    What has never answered costs nothing while it is idle, so that it is tried, and
    a lot while its first call is out, so that it is not flooded.
    """
    cost_s = peak.now_s(now)
    if peak.at is None and in_flight:
        return _BUSY + in_flight
    return cost_s * (in_flight + 1)
