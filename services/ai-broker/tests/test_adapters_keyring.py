"""What is sealed opens only where, and for whom, it was sealed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_broker.adapters.keyring import Keyring, read_keks
from ai_broker.domain import credential as credentials
from ai_broker.domain.credential import Sealed
from determinism import SeededIds
from faults import PermanentFault

OLD, NEW = bytes(range(32)), bytes(range(1, 33))
NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)


def ring(*keks: bytes) -> Keyring:
    """Give a keyring with nonces of its own."""
    return Keyring(keks, SeededIds(1))


@given(st.text(max_size=600), NAMES, NAMES, NAMES, NAMES)
def test_a_seal_opens_for_its_own_tenant_and_vendor_alone(
    secret: str, tenant: str, vendor: str, tenant_2: str, vendor_2: str
) -> None:
    """A row that is copied under another tenant or vendor opens for nobody."""
    keys = ring(OLD)
    sealed = keys.seal(secret, credentials.bound_to(tenant, vendor))
    assert keys.unseal(sealed, credentials.bound_to(tenant, vendor)) == secret
    if (tenant, vendor) != (tenant_2, vendor_2):
        with pytest.raises(PermanentFault, match="another tenant or vendor"):
            keys.unseal(sealed, credentials.bound_to(tenant_2, vendor_2))


@given(st.integers(0, 60), st.integers(1, 255))
def test_a_changed_seal_does_not_open(place: int, change: int) -> None:
    """A flipped bit anywhere, nonce and tag included, is noticed."""
    keys = ring(OLD)
    sealed = keys.seal("k" * 32, b"x")
    data = bytearray(sealed.data)
    data[place % len(data)] ^= change
    with pytest.raises(PermanentFault):
        keys.unseal(Sealed(sealed.kek_id, bytes(data)), b"x")


def test_the_first_kek_seals_and_all_open() -> None:
    """A rotation adds a key in front; what the old one sealed still opens."""
    sealed = ring(OLD).seal("secret", b"x")
    both = ring(NEW, OLD)
    assert both.unseal(sealed, b"x") == "secret"
    again = both.seal("secret", b"x")
    assert ring(NEW).unseal(again, b"x") == "secret"
    with pytest.raises(PermanentFault, match=sealed.kek_id):
        ring(NEW).unseal(sealed, b"x")


def test_equal_secrets_never_look_alike() -> None:
    """Each seal has a nonce of its own, so that equal keys cannot be told."""
    keys = ring(OLD)
    assert keys.seal("secret", b"x").data != keys.seal("secret", b"x").data


def test_without_a_kek_nothing_is_sealed() -> None:
    """There is no fallback to plain text."""
    assert ring().kek_id is None
    with pytest.raises(PermanentFault, match="no key-encryption key"):
        ring().seal("secret", b"x")


def test_keks_are_read_from_a_list() -> None:
    """Commas, spaces and lines part them; what is no key is refused unquoted."""
    text = f"{OLD.hex()},\n {NEW.hex().upper()}\n"
    assert read_keks(text) == [OLD, NEW]
    assert read_keks(" \n") == []
    with pytest.raises(ValueError, match="key 2 of 2 is not 64 hex digits") as caught:
        read_keks(f"{OLD.hex()} {'z' * 64}")
    assert "zz" not in str(caught.value)
    assert OLD.hex() not in str(caught.value)
    assert OLD.hex() not in repr(ring(OLD))
