"""
API keys: ``de_<id>_<secret>``; only the secret's SHA-256 is ever stored.

The secret has 256 bits, so a fast hash is the right one: there is nothing to
guess, and every request pays for it.
"""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

PREFIX: Final = "de"


class Role(StrEnum):
    """What a key is for."""

    ADMIN = "admin"
    TENANT = "tenant"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A stored key."""

    key_id: str
    role: Role
    tenant: str | None
    name: str
    secret_hash: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    cache_ttl_s: int | None = None
    """How old an equal question's answer its questions take, unless they say."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking."""

    key_id: str
    role: Role
    tenant: str | None
    cache_ttl_s: int | None = None
    """As the key has it."""


@dataclass(frozen=True, slots=True)
class Presented:
    """A key as the caller sent it."""

    key_id: str
    secret: str


def parse(text: str) -> Presented | None:
    """Read ``de_<id>_<secret>``; None when it is no such key."""
    parts = text.split("_")
    if len(parts) != len(("de", "id", "secret")) or parts[0] != PREFIX:
        return None
    _, key_id, secret = parts
    return Presented(key_id, secret) if key_id and secret else None


def spell(key_id: str, secret: str) -> str:
    """Return the key as its owner will send it."""
    return f"{PREFIX}_{key_id}_{secret}"


def secret_hash(secret: str) -> str:
    """Return what is stored of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def authenticate(
    presented: Presented, stored: ApiKey | None, now: datetime
) -> Principal | None:
    """Tell who it is; None when the key is wrong, expired or revoked."""
    expected = stored.secret_hash if stored is not None else secret_hash("")
    matches = hmac.compare_digest(expected, secret_hash(presented.secret))
    if stored is None or not matches or stored.revoked_at is not None:
        return None
    if stored.expires_at is not None and stored.expires_at <= now:
        return None
    return Principal(stored.key_id, stored.role, stored.tenant, stored.cache_ttl_s)
