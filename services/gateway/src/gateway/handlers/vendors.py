"""A tenant's own vendor keys, which ai-broker keeps."""

from contracts import subjects
from contracts.credentials import (
    CredentialInfo,
    CredentialPage,
    ListCredentials,
    PutCredential,
    RemoveCredential,
)
from contracts.delivery import Nothing
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
