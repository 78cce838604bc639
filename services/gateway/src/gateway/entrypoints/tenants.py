"""``/v1/tenants`` and ``/v1/keys``, for admins."""

from typing import Self

from fastapi import APIRouter, Response, status

from contracts.ids import TenantId, Token
from contracts.message import Instant, Message
from gateway.domain.keys import ApiKey, Role
from gateway.entrypoints.identity import Admin, DepsOf
from gateway.handlers import tenants
from gateway.handlers.tenants import KeyRequest, TenantRequest

routes = APIRouter(prefix="/v1")


class KeyView(Message):
    """A key without its secret."""

    key_id: str
    """Its id, the second part of the key."""
    role: Role
    """What it is for."""
    tenant: TenantId | None
    """Whose it is."""
    name: str
    """What it is for, in words."""
    created_at: Instant
    """When it was made."""
    expires_at: Instant | None
    """When it stops working."""
    revoked_at: Instant | None
    """When it was revoked."""
    cache_ttl_s: int | None = None
    """How old an equal question's answer its completions take, in seconds."""

    @classmethod
    def of(cls, key: ApiKey) -> Self:
        """Leave out the hash."""
        return cls.model_validate(key, from_attributes=True)


class KeyCreated(Message):
    """A new key; the secret is shown this once."""

    key: KeyView
    """What is stored."""
    api_key: str
    """What its owner sends: ``de_<id>_<secret>``."""


class NatsCredentials(Message):
    """How a tenant's own systems reach NATS; shown this once."""

    url: str
    """The server."""
    user: str
    """The tenant's user."""
    password: str
    """Its password."""
    inbox_prefix: str
    """An inbox prefix of its own; a client's default one works too."""
    publish: str
    """What it may publish."""
    subscribe: str
    """What it may read."""


class TenantCreated(Message):
    """A new tenant and its credentials; secrets are shown this once."""

    tenant: TenantId
    """Its id."""
    api_key: str
    """Its first key."""
    nats: NatsCredentials
    """Its NATS user."""


class TenantView(Message):
    """A tenant."""

    tenant: TenantId
    """Its id."""
    created_at: Instant
    """When it was made."""


class TenantList(Message):
    """Every tenant."""

    tenants: tuple[TenantView, ...]
    """By id."""


class KeyList(Message):
    """Keys, without their secrets."""

    keys: tuple[KeyView, ...]
    """Oldest first."""


@routes.post("/tenants", status_code=status.HTTP_201_CREATED, tags=["tenants"])
async def create_tenant(
    request: TenantRequest, _admin: Admin, deps: DepsOf
) -> TenantCreated:
    """Make a tenant with its first API key and its NATS user."""
    new = await tenants.create_tenant(request, deps)
    return TenantCreated(
        tenant=new.tenant,
        api_key=new.api_key.text,
        nats=NatsCredentials(
            url=deps.nats_url,
            user=new.nats_user,
            password=new.nats_password,
            inbox_prefix=f"_INBOX.{new.nats_user}",
            publish=f"events.{new.tenant}.>",
            subscribe=f"evt.orchestrator.task.{new.tenant}.>",
        ),
    )


@routes.get("/tenants", tags=["tenants"])
async def list_tenants(_admin: Admin, deps: DepsOf) -> TenantList:
    """List tenants."""
    found = await tenants.list_tenants(deps)
    views = (
        TenantView(tenant=each.tenant, created_at=each.created_at)
        for each in found.tenants
    )
    return TenantList(tenants=tuple(views))


@routes.post("/keys", status_code=status.HTTP_201_CREATED, tags=["keys"])
async def create_key(request: KeyRequest, _admin: Admin, deps: DepsOf) -> KeyCreated:
    """Make a key for a tenant, or an admin key."""
    new = await tenants.create_key(request, deps)
    return KeyCreated(key=KeyView.of(new.key), api_key=new.text)


@routes.get("/keys", tags=["keys"])
async def list_keys(
    _admin: Admin, deps: DepsOf, tenant: TenantId | None = None
) -> KeyList:
    """List keys, without their secrets."""
    keys = await tenants.list_keys(tenant, deps)
    return KeyList(keys=tuple(KeyView.of(key) for key in keys))


@routes.delete("/keys/{key_id}", status_code=status.HTTP_204_NO_CONTENT, tags=["keys"])
async def revoke_key(key_id: Token, _admin: Admin, deps: DepsOf) -> Response:
    """Revoke a key at once."""
    await tenants.revoke_key(key_id, deps)
    return Response(status_code=status.HTTP_204_NO_CONTENT)
