from dataclasses import replace
from datetime import UTC, datetime

from gateway.domain.keys import ApiKey, Role
from gateway.domain.known_keys import KEYS_MAX, KNOWN_S, KnownKeys

KEY = ApiKey(
    key_id="k1",
    role=Role.TENANT,
    tenant="acme",
    name="",
    secret_hash="h",
    created_at=datetime(2026, 11, 23, tzinfo=UTC),
)


def test_a_key_is_known_for_a_moment() -> None:
    """Counted from the beginning of its read: a revocation since then may be missed."""
    known = KnownKeys()
    known.note(KEY, 10.0)
    assert known.find("k1", 10.0 + KNOWN_S * 0.9) == KEY
    assert known.find("k1", 10.0 + KNOWN_S) is None
    assert known.find("k1", 10.0) is None


def test_what_is_not_there_is_not_known() -> None:
    """A key that was just made works at once."""
    assert KnownKeys().find("k1", 0.0) is None


def test_the_oldest_make_room() -> None:
    """However many keys come by, so many are kept."""
    known = KnownKeys()
    for number in range(KEYS_MAX + 1):
        known.note(replace(KEY, key_id=str(number)), 0.0)
    assert known.find("0", 0.0) is None
    assert known.find("1", 0.0) is not None
    assert known.find(str(KEYS_MAX), 0.0) is not None
