"""
What this process has learned of its vendors: breakers, latencies, paces, accounts.

It lives in memory, one board for each process, and is lost with it: a new process
learns within a few calls what an old one knew, and replicas need not agree. Whatever
is on it is immutable and changed by a pure function; the board keeps what is current.

What a tenant's own key meets is that tenant's alone: its limits, its exhausted account
and its vendor's moods say nothing about the platform's key, nor the other way round.
"""

import copy
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import telemetry
from ai_broker.domain import breaker, pacing
from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.latency import Latency, load
from ai_broker.domain.routing import Outlook
from ai_broker.handlers.line import Line, Ticket
from determinism import Clock, IdSource

LINES_MAX: Final = 512
"""Models remembered at once; callers may make names up where a vendor takes any."""
SPENT_S: Final = 600.0
"""How long an exhausted account is left alone."""

log = telemetry.get_logger()


class Board:
    """
    The memory of one process.

    Args:
        clock: The time.
        ids: Draws, so that replicas do not probe at once.
    """

    def __init__(self, clock: Clock, ids: IdSource) -> None:
        self._clock = clock
        self._ids = ids
        self._lines: OrderedDict[str, Line] = OrderedDict()
        self._spent: OrderedDict[str, datetime] = OrderedDict()
        self._tenant = ""

    def seen_by(self, tenant: str) -> "Board":
        """Return the same board, with a tenant's own keys' lines beside the others."""
        view = copy.copy(self)
        view._tenant = tenant  # noqa: SLF001 -- a view of the same class
        return view

    def outlooks(
        self, candidates: Sequence[Candidate], tokens: int
    ) -> tuple[Outlook, ...]:
        """Return how candidates stand, for a request of so many input tokens."""
        now = self._clock.now()
        return tuple(self._outlook(each, tokens, now) for each in candidates)

    def known(self, candidate: Candidate) -> Line | None:
        """Return what has been learned of a candidate; None before its first call."""
        return self._lines.get(self._key(candidate, candidate.name))

    def latency(self, candidate: Candidate) -> Latency:
        """Return how slow a candidate has been."""
        return self._line(candidate).latency

    def load(self, candidate: Candidate, *, deltas: bool) -> float:
        """Return how dear one more call of a candidate is; see ``latency.load``."""
        line = self._line(candidate)
        peak = line.latency.first if deltas else line.latency.whole
        return load(peak, line.in_flight, self._clock.now())

    def admit(self, candidate: Candidate, tokens: int) -> Ticket:
        """Note that a call is about to be made; its ticket must be ended."""
        return self._line(candidate).admit(tokens)

    def exhausted(self, candidate: Candidate) -> None:
        """Leave the account at a candidate's vendor alone for a while."""
        key, vendor = self._key(candidate, candidate.vendor), candidate.vendor
        self._spent[key] = self._clock.now() + timedelta(seconds=SPENT_S)
        if len(self._spent) > LINES_MAX:
            self._spent.popitem(last=False)
        log.warning("vendor_account_exhausted", vendor=vendor, pause_s=SPENT_S)

    def _key(self, candidate: Candidate, name: str) -> str:
        return f"{self._tenant if candidate.own_key else ''}\0{name}"

    def _outlook(self, candidate: Candidate, tokens: int, now: datetime) -> Outlook:
        line = self._line(candidate)
        spent_until = self._spent.get(self._key(candidate, candidate.vendor), now)
        spent_for_s = (spent_until - now).total_seconds()
        return Outlook(
            ready_in_s=pacing.ready_in_s(line.pace, tokens, now),
            refused_for_s=breaker.refuses_for_s(line.breaker, now),
            spent_for_s=spent_for_s if spent_for_s > 0 else None,
            first_token_s=line.latency.first.now_s(now),
        )

    def _line(self, candidate: Candidate) -> Line:
        key = self._key(candidate, candidate.name)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line(candidate, self._clock, self._ids)
            self._forget_idle()
        self._lines.move_to_end(key)
        return line

    def _forget_idle(self) -> None:
        for name, line in tuple(self._lines.items())[:-1]:
            if len(self._lines) <= LINES_MAX:
                return
            if not line.in_flight:
                del self._lines[name]
