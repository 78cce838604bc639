"""
Hedging: a second call when the first is slow to begin, with a cap on its price.

The delay is fixed, or the 95th percentile of the first candidate's recent
first-token times; before twenty of those are known nothing is hedged. The second
call may cost at most a sum, or a multiple of what the first may cost, both at their
worst: all the input uncached and the longest answer. An unknown price fits no cap.
"""

from typing import Final, Literal, Self

from pydantic import Field, model_validator

from ai_broker.domain.latency import Latency
from contracts.message import Document

QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
DELAY_MIN_S: Final = 0.01


class Hedge(Document):
    """When a second call is made beside the first, and for how much."""

    after_ms: int | None = Field(default=None, ge=1, le=600_000)
    """Without content after so long."""
    after: Literal["p50", "p90", "p95", "p99"] | None = None
    """Without content after what this share of recent calls needed."""
    cost_max_pico_usd: int | None = Field(default=None, ge=0)
    """What the second call may cost at its worst."""
    cost_ratio_max: float | None = Field(default=None, gt=0, le=100)
    """The same, as a multiple of the first call's worst."""

    @model_validator(mode="after")
    def check(self) -> Self:
        """Want one delay and at least one cap."""
        if (self.after_ms is None) == (self.after is None):
            message = "hedge: give either after_ms or after, such as `after: p95`"
            raise ValueError(message)
        if self.cost_max_pico_usd is None and self.cost_ratio_max is None:
            message = "hedge: give a cap, cost_max_pico_usd or cost_ratio_max"
            raise ValueError(message)
        return self


def delay_s(hedge: Hedge, latency: Latency) -> float | None:
    """Return how long the first call may stay silent; None before that is known."""
    if hedge.after_ms is not None:
        return hedge.after_ms / 1_000
    found = latency.quantile_s(QUANTILES[hedge.after or "p95"])
    return None if found is None else max(found, DELAY_MIN_S)


def is_affordable(hedge: Hedge, extra: int | None, first: int | None) -> bool:
    """
    Tell whether a second call fits the caps.

    Args:
        hedge: The caps.
        extra: The second call's worst cost in pico-USD; None if unknown.
        first: The first call's.
    """
    if extra is None:
        return False
    if hedge.cost_max_pico_usd is not None and extra > hedge.cost_max_pico_usd:
        return False
    if hedge.cost_ratio_max is None:
        return True
    return first is not None and extra <= hedge.cost_ratio_max * first
