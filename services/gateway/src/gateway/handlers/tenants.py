"""Tenants and their keys."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import Field, field_validator

import telemetry
from contracts import subjects
from contracts.delivery import Nothing
from contracts.ids import TenantId
from contracts.message import Document, Instant
from contracts.problems import Code
from contracts.tenants import ReconcileReport, Tenant, Tenants
from faults import Fault
from gateway.domain.keys import (
    ApiKey,
    Presented,
    Principal,
    Role,
    authenticate,
    parse,
    secret_hash,
    spell,
)
from gateway.domain.known_keys import KNOWN_S
from gateway.ports import Deps, Work
from messaging.refusals import Refused, refuse

log = telemetry.get_logger()

RECONCILE_LIMIT_S: Final = 10.0
KEY_ID_LENGTH: Final = 12


class TenantRequest(Document):
    """The body of ``POST /v1/tenants``."""

    tenant: TenantId
    """Its id: lower-case letters, digits and dashes."""

    @field_validator("tenant")
    @classmethod
    def _is_not_the_platform(cls, tenant: str) -> str:
        # On subjects this word says that a message is no tenant's.
        if tenant == subjects.PLATFORM:
            message = f"{tenant!r} is the platform's own name: choose another"
            raise ValueError(message)
        return tenant


class KeyRequest(Document):
    """The body of ``POST /v1/keys``."""

    tenant: TenantId | None = None
    """Whose key; absent for an admin key."""
    name: str = Field(default="", max_length=200, pattern=r"^[^\x00-\x1f]*$")
    """What it is for."""
    expires_at: Instant | None = None
    """When it stops working."""
    cache_ttl_s: int | None = Field(default=None, ge=1, le=30 * 86_400)
    """How old an equal question's answer its completions take, in seconds, unless a
    request says; absent: none."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key and its secret, shown this once."""

    key: ApiKey
    text: str


@dataclass(frozen=True, slots=True)
class NewTenant:
    """A tenant and its credentials, shown this once."""

    tenant: str
    api_key: NewKey
    nats_user: str
    nats_password: str


async def identify(text: str | None, deps: Deps) -> Principal:
    """
    Tell who holds a key.

    Raises:
        messaging.refusals.Refused: ``unauthenticated``.
    """
    presented = parse(text) if text is not None else None
    if presented is not None:
        principal = await _authenticate(presented, deps)
        if principal is not None:
            return principal
    detail = "send a valid key: Authorization: Bearer de_<id>_<secret>, or x-api-key"
    raise refuse(Code.UNAUTHENTICATED, detail)


async def _authenticate(presented: Presented, deps: Deps) -> Principal | None:
    began_s, now = deps.clock.monotonic(), deps.clock.now()
    known = deps.known_keys.find(presented.key_id, began_s)
    principal = authenticate(presented, known, now) if known is not None else None
    if principal is not None:
        return principal
    # Whoever is not known may just have been made, or given another secret.
    found = await deps.store.read(lambda work: work.api_key(presented.key_id))
    if found is not None:
        deps.known_keys.note(found, began_s)
    return authenticate(presented, found, now)


def require_admin(principal: Principal) -> None:
    """Refuse everyone but an admin."""
    if principal.role is not Role.ADMIN:
        raise refuse(Code.FORBIDDEN, "this needs an admin key")


async def create_tenant(request: TenantRequest, deps: Deps) -> NewTenant:
    """
    Make a tenant with its first key and its NATS user.

    Raises:
        messaging.refusals.Refused: ``conflict`` when the id is taken.
    """
    now = deps.clock.now()
    password = deps.ids.secret()
    tenant = Tenant(
        tenant=request.tenant,
        nats_password_hash=deps.hash_password(password),
        created_at=now,
    )
    new_key = _new_key(
        Role.TENANT, KeyRequest(tenant=request.tenant, name="first key"), now, deps
    )

    def transaction(work: Work) -> bool:
        if not work.add_tenant(tenant):
            return False
        work.add_api_key(new_key.key)
        return True

    if not await deps.store.run(transaction):
        raise refuse(Code.CONFLICT, f"tenant {request.tenant} exists already")
    await _announce(tenant, deps)
    log.info("tenant_created", tenant=request.tenant)
    return NewTenant(request.tenant, new_key, f"tenant-{request.tenant}", password)


async def create_key(request: KeyRequest, deps: Deps) -> NewKey:
    """
    Make a key for a tenant, or an admin key.

    Raises:
        messaging.refusals.Refused: ``not-found`` for an unknown tenant.
    """
    role = Role.ADMIN if request.tenant is None else Role.TENANT
    now = deps.clock.now()
    new = _new_key(role, request, now, deps)

    def transaction(work: Work) -> bool:
        known = {tenant.tenant for tenant in work.tenants()}
        if request.tenant is not None and request.tenant not in known:
            return False
        work.add_api_key(new.key)
        return True

    if not await deps.store.run(transaction):
        raise refuse(Code.NOT_FOUND, f"no tenant {request.tenant}")
    return new


async def list_keys(tenant: str | None, deps: Deps) -> list[ApiKey]:
    """Return keys, without their secrets."""
    return list(await deps.store.read(lambda work: work.api_keys(tenant)))


async def revoke_key(key_id: str, deps: Deps) -> None:
    """
    Revoke a key; once this returns, no replica takes it any more.

    Raises:
        messaging.refusals.Refused: ``not-found``.
    """
    now = deps.clock.now()
    if not await deps.store.run(lambda work: work.revoke_api_key(key_id, now)):
        raise refuse(Code.NOT_FOUND, f"no key {key_id}")
    # Whoever read it just before may know it for so long.
    await deps.clock.sleep(KNOWN_S)


async def list_tenants(deps: Deps) -> Tenants:
    """Return every tenant, for the NATS bootstrap."""
    tenants = await deps.store.read(lambda work: work.tenants())
    return Tenants(tenants=tuple(tenants))


async def seed_admin(key_text: str, deps: Deps) -> None:
    """
    Make sure that the configured admin key works, unless that very key was revoked.

    Raises:
        ValueError: It is no key.
    """
    presented = parse(key_text)
    if presented is None:
        message = "GATEWAY_ADMIN_KEY must be de_<id>_<secret>"
        raise ValueError(message)
    key = ApiKey(
        key_id=presented.key_id,
        role=Role.ADMIN,
        tenant=None,
        name="configured",
        secret_hash=secret_hash(presented.secret),
        created_at=deps.clock.now(),
    )

    def transaction(work: Work) -> None:
        stored = work.api_key(key.key_id)
        if stored is None or stored.secret_hash != key.secret_hash:
            work.put_api_key(key)

    await deps.store.run(transaction)


async def _announce(tenant: Tenant, deps: Deps) -> None:
    # The bootstrap looks by itself every few seconds; asking makes it at once.
    try:
        await deps.peers.request(
            subjects.RECONCILE.to(),
            Nothing(),
            ReconcileReport,
            timeout_s=RECONCILE_LIMIT_S,
        )
    except (Fault, Refused) as cause:
        log.warning("tenant_not_reconciled_yet", tenant=tenant.tenant, why=str(cause))


def _new_key(role: Role, request: KeyRequest, now: datetime, deps: Deps) -> NewKey:
    secret = deps.ids.secret()
    key_id = deps.ids.secret()[:KEY_ID_LENGTH]
    key = ApiKey(
        key_id=key_id,
        role=role,
        tenant=request.tenant,
        name=request.name,
        secret_hash=secret_hash(secret),
        created_at=now,
        expires_at=request.expires_at,
        cache_ttl_s=request.cache_ttl_s,
    )
    return NewKey(key, spell(key_id, secret))
