"""
Requests and tokens per minute, per API key, and what is left of them.

A fixed window of a minute per key, tokens counted when a call is admitted (input)
and when it ends (output), as vendors do roughly. A key has the limits of all unless
it was given its own.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

WINDOW_S: Final = 60.0
KEYS_MAX: Final = 10_000


@dataclass(frozen=True)
class Quota:
    """What a key may use in a minute."""

    requests: int
    tokens: int


@dataclass(frozen=True)
class Allowance:
    """One key's limits and rest; the window ends in ``reset_s``, at ``reset_at``."""

    requests_limit: int
    requests_left: int
    tokens_limit: int
    tokens_left: int
    reset_s: float
    reset_at: float

    @property
    def is_spent(self) -> bool:
        """Nothing is left, neither requests nor tokens."""
        return self.requests_left < 0 or self.tokens_left < 0


@dataclass
class _Window:
    ends_at: float
    requests: int = 0
    tokens: int = 0


class Limits:
    """Counts per key; the least recently opened windows are forgotten."""

    def __init__(self, requests_per_minute: int, tokens_per_minute: int) -> None:
        self.of_all = Quota(requests_per_minute, tokens_per_minute)
        self._of_key: dict[str, Quota] = {}
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def set(self, key: str | None, quota: Quota) -> None:
        """Give one key its own limits, or all others theirs; counting starts anew."""
        if key is None:
            self.of_all = quota
            self._windows.clear()
            return
        self._windows.pop(key, None)
        if key in self._of_key or len(self._of_key) < KEYS_MAX:
            self._of_key[key] = quota

    def quota_of(self, key: str | None) -> Quota:
        """Return the limits of a key, or those of all without their own."""
        return self._of_key.get(key, self.of_all) if key else self.of_all

    def admit(self, key: str, tokens: int, now: float) -> Allowance:
        """Count one request of that many input tokens and return what is left."""
        window = self._window(key, now)
        window.requests += 1
        window.tokens += tokens
        return self._allowance(key, window, now)

    def spend(self, key: str, tokens: int, now: float) -> None:
        """Count output tokens."""
        self._window(key, now).tokens += tokens

    def look(self, key: str, now: float) -> Allowance:
        """Return what is left without counting anything."""
        return self._allowance(key, self._window(key, now), now)

    def _window(self, key: str, now: float) -> _Window:
        window = self._windows.get(key)
        if window is None or window.ends_at <= now:
            window = self._windows[key] = _Window(now + WINDOW_S)
            self._windows.move_to_end(key)
            if len(self._windows) > KEYS_MAX:
                self._windows.popitem(last=False)
        return window

    def _allowance(self, key: str, window: _Window, now: float) -> Allowance:
        quota = self._of_key.get(key, self.of_all)
        return Allowance(
            quota.requests,
            quota.requests - window.requests,
            quota.tokens,
            quota.tokens - window.tokens,
            max(window.ends_at - now, 0.0),
            window.ends_at,
        )
