"""
A tenant's own keys for vendors: put, listed without the key, removed.

The key itself travels in one message only, ``PutCredential``, and no answer of any
service contains it. NATS carries it as it is: in production NATS speaks TLS.
"""

from typing import Annotated

from pydantic import ConfigDict, Field, PlainSerializer, SecretStr

from contracts.ids import TenantId
from contracts.message import Instant, Message

VENDOR_PATTERN = r"^[a-z0-9-]{1,48}$"

VendorName = Annotated[str, Field(pattern=VENDOR_PATTERN)]
"""A vendor of the catalogue: ``openai``."""


def _shown(key: SecretStr) -> str:
    return key.get_secret_value()


VendorKey = Annotated[
    SecretStr,
    Field(min_length=8, max_length=512),
    # Only the wire form has it; repr, str and errors never do.
    PlainSerializer(_shown, return_type=str, when_used="json"),
]


class PutCredential(Message):
    """Keep a tenant's own key for a vendor, in the place of an earlier one."""

    model_config = ConfigDict(hide_input_in_errors=True)

    tenant: TenantId
    """Whose key it is, and who pays the vendor with it."""
    vendor: VendorName
    """A vendor of the catalogue: ``openai``."""
    key: VendorKey
    """The key as the vendor gave it."""


class RemoveCredential(Message):
    """Forget a tenant's own key for a vendor."""

    tenant: TenantId
    """Whose."""
    vendor: VendorName
    """Which."""


class ListCredentials(Message):
    """Ask which vendors a tenant has keys of its own for."""

    tenant: TenantId
    """Whose."""


class CredentialInfo(Message):
    """What may be known of a key."""

    vendor: VendorName
    """The vendor that it is for."""
    created_at: Instant
    """When it was put."""
    fingerprint: str
    """The start of its SHA-256 digest, as twelve hex digits."""
    last4: str | None = None
    """Its last four characters; None where they would be much of it."""


class CredentialPage(Message):
    """A tenant's own keys."""

    credentials: tuple[CredentialInfo, ...]
    """By vendor."""
