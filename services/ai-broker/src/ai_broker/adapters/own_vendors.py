"""
Which vendors a tenant has keys of its own for, and a client for each.

Every completion asks, so the answer is kept some seconds in memory; a key that was
put or removed here counts at once, one that changed at another replica when the
memory is old.
"""

from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import telemetry
from ai_broker.adapters.vendors.pool import VendorPool
from ai_broker.domain.catalogue import Endpoint
from ai_broker.domain.credential import Credential
from ai_broker.domain.vendor import (
    Failure,
    FailureKind,
    Prepared,
    VendorError,
    VendorEvent,
)
from ai_broker.ports import Credentials, Own, Sealer
from ai_broker.ports.vendors import EmbeddingVendor
from determinism import Clock
from faults import PermanentFault

FRESH_S: Final = 5.0
TENANTS_MAX: Final = 4_096

log = telemetry.get_logger()


@dataclass(frozen=True, slots=True)
class _Known:
    own: Own
    until_s: float


class OwnVendors:
    """
    Opens tenants' own keys.

    Args:
        credentials: The sealed keys.
        sealer: What opens them.
        endpoints: The address of each vendor, by name; the key is put in.
        pool: Keeps the clients, and is closed by its owner.
        clock: Ages what is remembered.
    """

    def __init__(
        self,
        credentials: Credentials,
        sealer: Sealer,
        endpoints: Mapping[str, Endpoint],
        pool: VendorPool,
        clock: Clock,
    ) -> None:
        self._credentials = credentials
        self._sealer = sealer
        self._endpoints = endpoints
        self._pool = pool
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def of(self, tenant: str) -> Own:
        """Return a tenant's own vendors."""
        known = self._known.get(tenant)
        if known is None or known.until_s <= self._clock.monotonic():
            known = _Known(await self._look(tenant), self._clock.monotonic() + FRESH_S)
            self._known[tenant] = known
            if len(self._known) > TENANTS_MAX:
                self._known.popitem(last=False)
        return known.own

    async def forget(self, tenant: str, vendor: str) -> None:
        """Look anew at the next call, and close the client of the old key."""
        self._known.pop(tenant, None)
        await self._pool.drop(tenant, vendor)

    async def _look(self, tenant: str) -> Own:
        found = [
            (self._endpoints[each.vendor], each)
            for each in await self._credentials.of(tenant)
            if each.vendor in self._endpoints
        ]
        vendors = {each.vendor: await self._open(at, each) for at, each in found}
        return Own(tuple(at.entry for at, _ in found), vendors)

    async def _open(self, at: Endpoint, credential: Credential) -> EmbeddingVendor:
        try:
            key = self._sealer.unseal(credential.sealed, credential.bound_to)
        except PermanentFault as fault:
            log.error(  # noqa: TRY400 -- the fault says it all
                "vendor_key_not_opened",
                tenant=credential.tenant,
                vendor=credential.vendor,
                fingerprint=credential.fingerprint,
                kek_id=credential.sealed.kek_id,
                detail=fault.detail,
            )
            return _Unopened(credential.vendor)
        return await self._pool.vendor(credential.tenant, replace(at, key=key))


class _Unopened:
    """
    A vendor whose key cannot be opened here.

    The platform's key is no substitute: another would be billed. Other vendors of an
    alias still answer.
    """

    def __init__(self, vendor: str) -> None:
        self._detail = (
            f"your own key for {vendor} cannot be opened here: put it again, or let "
            "the operator restore the key-encryption key that it was sealed under"
        )

    def prepare(self, *_: object, **__: object) -> Prepared:
        """Refuse, saying what to do."""
        raise PermanentFault(self._detail)

    async def complete(self, *_: object, **__: object) -> AsyncGenerator[VendorEvent]:
        """Fail: nothing can be sent."""
        raise VendorError(Failure(FailureKind.UNREACHED, self._detail))
        yield  # a generator, as the port wants it

    async def embed(self, *_: object, **__: object) -> AsyncGenerator[VendorEvent]:
        """Fail: nothing can be sent."""
        raise VendorError(Failure(FailureKind.UNREACHED, self._detail))
        yield  # a generator, as the port wants it

    async def models(self, *_: object, **__: object) -> AsyncGenerator[VendorEvent]:
        """Fail: nothing can be sent."""
        raise VendorError(Failure(FailureKind.UNREACHED, self._detail))
        yield  # a generator, as the port wants it

    async def close(self) -> None:
        """Do nothing: nothing is open."""
