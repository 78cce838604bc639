"""``/v1/vendors``: who answers completions, checks, and tenants' own keys."""

from typing import Annotated

from fastapi import APIRouter, Path, Response, status
from pydantic import ConfigDict

from contracts.credentials import (
    VENDOR_PATTERN,
    CredentialInfo,
    CredentialPage,
    PutCredential,
    RemoveCredential,
    VendorKey,
)
from contracts.message import Document
from contracts.vendors import VendorCheck, VendorPage
from gateway.entrypoints.identity import Caller, DepsOf, TenantOf
from gateway.handlers import vendors

VendorInPath = Annotated[
    str, Path(pattern=VENDOR_PATTERN, description="A vendor, as `openai`")
]

routes = APIRouter(prefix="/v1/vendors", tags=["vendors"])


class CredentialBody(Document):
    """A key to keep."""

    model_config = ConfigDict(hide_input_in_errors=True)

    key: VendorKey
    """The key as the vendor gave it; no answer ever contains it."""


@routes.get("")
async def list_vendors(caller: Caller, deps: DepsOf) -> VendorPage:
    """List the vendors: usable or why not, whose key, and how their models fare."""
    return await vendors.list_vendors(caller.tenant, deps)


@routes.post("/{vendor}/check")
async def check_vendor(
    vendor: VendorInPath, caller: Caller, deps: DepsOf
) -> VendorCheck:
    """Ask a vendor for its models with the key that your calls use; costs nothing."""
    return await vendors.check_vendor(caller.tenant, vendor, deps)


@routes.put("/{vendor}/credential")
async def put_credential(
    vendor: VendorInPath, body: CredentialBody, tenant: TenantOf, deps: DepsOf
) -> CredentialInfo:
    """Use this key of your own for a vendor, in the place of the platform's."""
    request = PutCredential(tenant=tenant, vendor=vendor, key=body.key)
    return await vendors.put_credential(request, deps)


@routes.delete("/{vendor}/credential", status_code=status.HTTP_204_NO_CONTENT)
async def remove_credential(
    vendor: VendorInPath, tenant: TenantOf, deps: DepsOf
) -> Response:
    """Forget your own key for a vendor."""
    await vendors.remove_credential(
        RemoveCredential(tenant=tenant, vendor=vendor), deps
    )
    return Response(status_code=status.HTTP_204_NO_CONTENT)


@routes.get("/credentials")
async def list_credentials(tenant: TenantOf, deps: DepsOf) -> CredentialPage:
    """List your own keys: vendor, time, fingerprint and last characters."""
    return await vendors.list_credentials(tenant, deps)
