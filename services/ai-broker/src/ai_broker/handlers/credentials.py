"""Use cases: tenants' own vendor keys are put, listed, removed and sealed anew."""

from typing import Final

import telemetry
from ai_broker.domain import credential as credentials
from ai_broker.domain.credential import Credential, Sealed
from ai_broker.ports import Deps
from contracts.credentials import (
    CredentialInfo,
    CredentialPage,
    ListCredentials,
    PutCredential,
    RemoveCredential,
)
from contracts.delivery import Nothing
from contracts.problems import Code
from faults import PermanentFault, TransientFault
from messaging.refusals import refuse

BATCH: Final = 100
NO_KEK: Final = (
    "this platform keeps no keys of tenants: its operator must set AI_BROKER_KEK or "
    "AI_BROKER_KEK_FILE (make one with `openssl rand -hex 32`)"
)

log = telemetry.get_logger()


async def put_credential(request: PutCredential, deps: Deps) -> CredentialInfo:
    """
    Seal and keep a key; calls use it from now on, elsewhere some seconds later.

    Raises:
        messaging.refusals.Refused: Without a KEK, for an unknown vendor, or for what
            cannot be a key.
    """
    if deps.sealer.kek_id is None:
        raise refuse(Code.FORBIDDEN, NO_KEK)
    if request.vendor not in deps.keyable:
        known = ", ".join(sorted(deps.keyable))
        detail = f"no vendor {request.vendor!r} here takes a key: use one of {known}"
        raise refuse(Code.NOT_FOUND, detail)
    key = request.key.get_secret_value()
    if not (key.isascii() and key.isprintable()) or " " in key:
        detail = "/key: has spaces or characters that no header can carry"
        raise refuse(Code.INVALID, detail)
    bound_to = credentials.bound_to(request.tenant, request.vendor)
    kept = Credential(
        tenant=request.tenant,
        vendor=request.vendor,
        sealed=deps.sealer.seal(key, bound_to),
        fingerprint=credentials.fingerprint_of(key),
        last4=credentials.tail_of(key),
        created_at=deps.clock.now(),
    )
    await deps.credentials.put(kept)
    await deps.own.forget(request.tenant, request.vendor)
    _tell("vendor_key_put", request, kept.fingerprint)
    return credentials.info_of(kept)


async def remove_credential(request: RemoveCredential, deps: Deps) -> Nothing:
    """
    Forget a key; calls under way end with it.

    Raises:
        messaging.refusals.Refused: There is none.
    """
    if not await deps.credentials.remove(request.tenant, request.vendor):
        raise refuse(
            Code.NOT_FOUND, f"you have no key of your own for {request.vendor}"
        )
    await deps.own.forget(request.tenant, request.vendor)
    _tell("vendor_key_removed", request, None)
    return Nothing()


async def list_credentials(request: ListCredentials, deps: Deps) -> CredentialPage:
    """Return what may be known of a tenant's keys."""
    found = await deps.credentials.of(request.tenant)
    return CredentialPage(credentials=tuple(map(credentials.info_of, found)))


async def rewrap_forever(deps: Deps) -> None:
    """Seal anew at intervals until cancelled: a rotation ends by itself."""
    while True:
        try:
            await rewrap(deps)
        except TransientFault as fault:
            log.warning("rewrap_postponed", detail=fault.detail)
        await deps.clock.sleep(deps.limits.rewrap_s)


async def rewrap(deps: Deps) -> int:
    """Seal every key under the first KEK, in batches; return how many changed."""
    kek_id, done = deps.sealer.kek_id, 0
    if kek_id is None:
        return done
    after = ("", "")
    while found := await deps.credentials.sealed_otherwise(kek_id, after, BATCH):
        changes = [(each, new) for each in found if (new := _resealed(each, deps))]
        done += await deps.credentials.reseal(changes)
        after = (found[-1].tenant, found[-1].vendor)
    if done:
        log.info("vendor_keys_rewrapped", count=done, kek_id=kek_id)
    return done


def _resealed(credential: Credential, deps: Deps) -> Sealed | None:
    """Return the key under the first KEK; None when it cannot be opened here."""
    try:
        key = deps.sealer.unseal(credential.sealed, credential.bound_to)
    except PermanentFault as fault:
        log.warning(
            "vendor_key_not_rewrapped",
            tenant=credential.tenant,
            vendor=credential.vendor,
            kek_id=credential.sealed.kek_id,
            detail=fault.detail,
        )
        return None
    return deps.sealer.seal(key, credential.bound_to)


def _tell(
    event: str, request: PutCredential | RemoveCredential, fingerprint: str | None
) -> None:
    log.info(
        event, tenant=request.tenant, vendor=request.vendor, fingerprint=fingerprint
    )
