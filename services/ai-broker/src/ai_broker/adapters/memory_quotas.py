"""Rate limits in this process's memory: each replica by itself."""

from collections.abc import Sequence
from typing import Final

from ai_broker.domain.quota import Bound, Taken, Verdict, correction_us, decide
from contracts.rates import Measure
from determinism import Clock

SWEEP_MIN: Final = 10_000
"""Rates that are remembered before those that are free again are forgotten."""


class MemoryQuotas:
    """
    Counts in memory.

    A rate is remembered for as long as something of it is taken, so there are at most
    as many as calls come in a minute.

    Args:
        clock: The time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until_us: dict[str, int] = {}
        self._holders: dict[str, set[str]] = {}
        self._sweep_at = SWEEP_MIN

    @property
    def size(self) -> int:
        """How many rates are remembered."""
        return len(self._until_us)

    async def admit(self, bounds: Sequence[Bound], holder: str) -> Verdict:
        """Count a call against all of its limits, or against none."""
        now_us = self._now_us()
        verdict = decide(bounds, [self._taken(bound, now_us) for bound in bounds])
        if verdict.refused_by is None:
            for bound in bounds:
                if bound.measure is Measure.CONCURRENT:
                    self._holders.setdefault(bound.key, set()).add(holder)
                else:
                    ahead_us = self._taken(bound, now_us)
                    self._until_us[bound.key] = now_us + ahead_us + bound.spread_us
            self._sweep(now_us)
        return verdict

    async def settle(self, bounds: Sequence[Bound], holder: str, tokens: int) -> None:
        """Free a call's place, and correct its tokens to what it used."""
        now_us = self._now_us()
        for bound in bounds:
            match bound.measure:
                case Measure.CONCURRENT:
                    self._free(bound.key, holder)
                case Measure.TOKENS:
                    ahead_us = self._taken(bound, now_us)
                    until_us = now_us + ahead_us + correction_us(bound, tokens)
                    self._until_us[bound.key] = until_us
                case Measure.REQUESTS:
                    continue

    async def keep(self) -> None:
        """Do nothing: places end with the process that they are in."""

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def _taken(self, bound: Bound, now_us: int) -> Taken:
        if bound.measure is Measure.CONCURRENT:
            return len(self._holders.get(bound.key, ()))
        return max(0, self._until_us.get(bound.key, 0) - now_us)

    def _free(self, key: str, holder: str) -> None:
        holders = self._holders.get(key, set())
        holders.discard(holder)
        if not holders:
            self._holders.pop(key, None)

    def _sweep(self, now_us: int) -> None:
        # The bound moves with what is left, so that sweeping stays rare.
        if len(self._until_us) >= self._sweep_at:
            kept = {key: us for key, us in self._until_us.items() if us > now_us}
            self._until_us = kept
            self._sweep_at = max(SWEEP_MIN, 2 * len(kept))

    def _now_us(self) -> int:
        return int(self._clock.monotonic() * 1_000_000)
