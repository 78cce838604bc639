"""
API keys that were read a moment ago, so that a busy caller costs no read per call.

A read takes another thread, which under load costs more than all else that the
gateway does for a call. Nothing is known longer than ``KNOWN_S`` after its read
began, on any replica; whoever revokes a key waits as long before saying that it is
revoked, so that by then it is refused everywhere.
"""

from typing import Final

from gateway.domain.keys import ApiKey

KNOWN_S: Final = 1.0
KEYS_MAX: Final = 4_096


class KnownKeys:
    """What one process knows of keys; only of those that there are."""

    def __init__(self) -> None:
        self._keys: dict[str, tuple[ApiKey, float]] = {}

    def find(self, key_id: str, now_s: float) -> ApiKey | None:
        """Return a key that may still be relied on."""
        known = self._keys.get(key_id)
        if known is None:
            return None
        key, until_s = known
        if now_s >= until_s:
            del self._keys[key_id]
            return None
        return key

    def note(self, key: ApiKey, began_s: float) -> None:
        """Keep what a read that began at this time has found."""
        self._keys.pop(key.key_id, None)
        if len(self._keys) >= KEYS_MAX:
            del self._keys[next(iter(self._keys))]
        self._keys[key.key_id] = (key, began_s + KNOWN_S)
