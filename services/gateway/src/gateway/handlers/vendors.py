"""The vendors, checks of them, and tenants' own keys, all of them ai-broker's."""

from contracts import subjects
from contracts.credentials import (
    CredentialInfo,
    CredentialPage,
    ListCredentials,
    PutCredential,
    RemoveCredential,
)
from contracts.delivery import Nothing
from contracts.vendors import CheckVendor, ListVendors, VendorCheck, VendorPage
from gateway.ports import Deps


async def put_credential(request: PutCredential, deps: Deps) -> CredentialInfo:
    """Keep a key; what comes back does not contain it."""
    address = subjects.CREDENTIAL_PUT.to(request.tenant)
    return await deps.peers.request(
        address, request, CredentialInfo, timeout_s=deps.peer_timeout_s
    )


async def remove_credential(request: RemoveCredential, deps: Deps) -> None:
    """Forget a key."""
    address = subjects.CREDENTIAL_REMOVE.to(request.tenant)
    await deps.peers.request(address, request, Nothing, timeout_s=deps.peer_timeout_s)


async def list_credentials(tenant: str, deps: Deps) -> CredentialPage:
    """Return what may be known of the keys."""
    address = subjects.CREDENTIAL_LIST.to(tenant)
    request = ListCredentials(tenant=tenant)
    return await deps.peers.request(
        address, request, CredentialPage, timeout_s=deps.peer_timeout_s
    )


async def list_vendors(tenant: str | None, deps: Deps) -> VendorPage:
    """Return the vendors as a tenant sees them; None is an admin's view."""
    return await deps.peers.request(
        subjects.VENDORS.to(tenant),
        ListVendors(tenant=tenant),
        VendorPage,
        timeout_s=deps.peer_timeout_s,
    )


async def check_vendor(tenant: str | None, vendor: str, deps: Deps) -> VendorCheck:
    """Return whether a vendor answers a tenant's key; None is the platform's."""
    return await deps.peers.request(
        subjects.VENDOR_CHECK.to(tenant),
        CheckVendor(tenant=tenant, vendor=vendor),
        VendorCheck,
        timeout_s=deps.peer_timeout_s,
    )
