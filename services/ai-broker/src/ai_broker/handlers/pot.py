"""One set of scopes in a replica's purse: its slices, and who waits for more."""

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from ai_broker.domain.budget import Profile, Reservation, Scopes, Slice
from contracts.completions import CompletionRequest
from contracts.problems import Code
from determinism import Clock

CALLS_FIRST: Final = 4
CALLS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Funds:
    """An attempt may be made, with this request, under this reservation."""

    request: CompletionRequest
    reservation: Reservation | None = None


@dataclass(frozen=True, slots=True)
class Denied:
    """There is no money for it, or nobody can tell."""

    code: Code
    detail: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Later:
    """Not now; what to say if there is no time left."""

    denied: Denied | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered of a tenant's limits."""

    profile: Profile
    until_s: float


@dataclass(frozen=True, slots=True)
class Spent:
    """What the meter said when nothing it can expect would be enough."""

    denied: Denied
    least: int
    """Nor is it enough for whoever needs this much, or more."""
    until_s: float


@dataclass(eq=False)
class Pot:
    """
    One set of scopes that spending counts against together.

    Those who wait stand in line: whoever is called looks for money, and on leaving
    calls the next.
    """

    tenant: str
    scopes: Scopes
    slices: list[Slice] = field(default_factory=list[Slice])
    unlimited_until_s: float = 0.0
    """Until when they are taken to have no limit; 0 if never told so."""
    spent: Spent | None = None
    short: Spent | None = None
    """What the meter said just now, if it had nothing: those in line heard it too."""
    is_asking: bool = False
    calls: int = CALLS_FIRST
    """For how many calls money is asked for the next time."""
    _line: deque["asyncio.Future[None]"] = field(
        default_factory=deque["asyncio.Future[None]"]
    )

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._line)

    @property
    def is_idle(self) -> bool:
        """Tell whether nothing is in it and nobody waits."""
        return not (self.slices or self._line or self.is_asking)

    def calls_wanted(self) -> int:
        """Return for how many calls to ask now; twice as many each time."""
        wanted = max(self.calls, self.waiting + 1)
        self.calls = min(self.calls * 2, CALLS_MAX)
        return wanted

    def forget(self) -> None:
        """Forget what was known of the limits: one of them has changed."""
        self.unlimited_until_s = 0.0
        self.spent = self.short = None

    def heard(self, now_s: float) -> Denied | None:
        """Return what whoever stands in line is told if there is no time left."""
        short = self.short
        return short.denied if short is not None and now_s < short.until_s else None

    def ring(self) -> None:
        """Call the first in line: there may be money, or nobody asks for any."""
        while self._line:
            first = self._line.popleft()
            if not first.done():
                first.set_result(None)
                return

    async def wait(self, deadline: datetime, clock: Clock, *, is_first: bool) -> None:
        """
        Return when called, or at the deadline.

        Args:
            deadline: When waiting is over.
            clock: The time.
            is_first: Whether this was called before: then it is the next again.
        """
        left_s = (deadline - clock.now()).total_seconds()
        place = asyncio.get_running_loop().create_future()
        if is_first:
            self._line.appendleft(place)
        else:
            self._line.append(place)
        try:
            async with asyncio.timeout(max(0.0, left_s)):
                await place
        except TimeoutError:
            return
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.ring()
            raise
        finally:
            with suppress(ValueError):
                self._line.remove(place)
