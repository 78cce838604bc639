"""
A tenant's own key for a vendor, sealed; pure.

What is stored can only be opened together with the names of its tenant and vendor,
so a row that was copied under another tenant opens for nobody.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from contracts.credentials import CredentialInfo

FINGERPRINT_DIGITS: Final = 12
TAIL_CHARACTERS: Final = 4
TAIL_KEY_MIN: Final = 20
"""Of a shorter key not even the end is shown."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """An encrypted key."""

    kek_id: str
    """Which key-encryption key opens it."""
    data: bytes


@dataclass(frozen=True, slots=True)
class Credential:
    """A key as the store has it."""

    tenant: str
    vendor: str
    sealed: Sealed
    fingerprint: str
    last4: str | None
    created_at: datetime

    @property
    def bound_to(self) -> bytes:
        """Return what it was sealed with."""
        return bound_to(self.tenant, self.vendor)


def bound_to(tenant: str, vendor: str) -> bytes:
    """Return what a key of this tenant and vendor is bound to."""
    # Neither name can hold a NUL, so no two pairs give the same bytes.
    return f"de-vendor-key\0{tenant}\0{vendor}".encode()


def fingerprint_of(key: str) -> str:
    """Return what tells keys apart without telling them."""
    return hashlib.sha256(key.encode()).hexdigest()[:FINGERPRINT_DIGITS]


def tail_of(key: str) -> str | None:
    """Return the last characters, where they are little of the key."""
    return key[-TAIL_CHARACTERS:] if len(key) >= TAIL_KEY_MIN else None


def info_of(credential: Credential) -> CredentialInfo:
    """Return what its tenant is told."""
    return CredentialInfo(
        vendor=credential.vendor,
        created_at=credential.created_at,
        fingerprint=credential.fingerprint,
        last4=credential.last4,
    )
