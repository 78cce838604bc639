"""Tenants, as the gateway tells the NATS bootstrap about them."""

from contracts.ids import TenantId
from contracts.message import Instant, Message


class Tenant(Message):
    """A company on the platform."""

    tenant: TenantId
    """Its id, in every subject, table and cache key."""
    nats_password_hash: str
    """bcrypt, as nats-server reads it; the secret itself is shown once."""
    created_at: Instant
    """When it was made."""


class Tenants(Message):
    """Every tenant there is."""

    tenants: tuple[Tenant, ...]
    """By id."""


class ReconcileReport(Message):
    """What the bootstrap did when asked."""

    changed: tuple[str, ...]
    """What it made or altered, in words."""
