"""Who is asking, from the headers of a request."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

import telemetry
from gateway.domain.keys import Principal
from gateway.handlers.tasks import require_tenant
from gateway.handlers.tenants import identify, require_admin
from gateway.ports import Deps

BEARER = HTTPBearer(auto_error=False, description="`de_<id>_<secret>`")
HEADER = APIKeyHeader(name="x-api-key", auto_error=False)


def deps_of(request: Request) -> Deps:
    """Return what the application was composed with."""
    found = request.app.state.deps
    assert isinstance(found, Deps)  # noqa: S101 -- set by create_app
    return found


DepsOf = Annotated[Deps, Depends(deps_of)]


async def caller(
    deps: DepsOf,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)],
    header: Annotated[str | None, Depends(HEADER)],
) -> Principal:
    """Identify the caller; 401 when there is no valid key."""
    principal = await identify(bearer.credentials if bearer else header, deps)
    if principal.tenant is not None:
        telemetry.set_attributes({"tenant": principal.tenant})
    return principal


Caller = Annotated[Principal, Depends(caller)]


async def tenant_of(principal: Caller) -> str:
    """Return the caller's tenant; 403 for an admin key."""
    return require_tenant(principal)


async def admin(principal: Caller) -> Principal:
    """Return the caller; 403 unless the key is an admin's."""
    require_admin(principal)
    return principal


TenantOf = Annotated[str, Depends(tenant_of)]
Admin = Annotated[Principal, Depends(admin)]
