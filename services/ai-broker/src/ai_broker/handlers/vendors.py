"""Use cases: show the vendors, and check that one answers and takes its key."""

from contextlib import aclosing
from statistics import median
from typing import Final

import telemetry
from ai_broker.domain.catalogue import candidate
from ai_broker.domain.showing import Glimpse, lack_of, reach_of, vendor_page
from ai_broker.domain.vendor import Started, VendorError
from ai_broker.handlers.desk import Desk
from ai_broker.handlers.equip import equipped, offered
from ai_broker.ports.vendors import EmbeddingVendor
from contracts.problems import Code
from contracts.vendors import (
    CheckVendor,
    ListVendors,
    Reach,
    VendorCheck,
    VendorPage,
)
from determinism import within
from faults import DeadlineExceeded
from messaging.refusals import refuse

CHECK_S: Final = 4.0
"""How long a check may take: less than the gateway waits for one."""

log = telemetry.get_logger()


async def list_vendors(request: ListVendors, desk: Desk) -> VendorPage:
    """Return the vendors as a tenant, or an admin, sees them from this replica."""
    view = await _view(request.tenant, desk)
    menu, seen = view.deps.menu, dict[str, Glimpse]()
    for entry in menu.vendors:
        for model in entry.models:
            asked = candidate(entry, model, own_key=entry.name in menu.own)
            line = view.board.known(asked)
            if line is not None:
                recent = line.latency.recent
                usual_s = round(median(recent), 4) if recent else None
                seen[asked.name] = Glimpse(line.breaker.state, usual_s)
    return vendor_page(menu, seen, view.deps.instance)


async def check_vendor(request: CheckVendor, desk: Desk) -> VendorCheck:
    """
    Ask a vendor for its models; breakers and the ledger learn nothing of it.

    Raises:
        messaging.refusals.Refused: The catalogue has no such vendor.
    """
    deps, name = (await _view(request.tenant, desk)).deps, request.vendor
    lacking = {each.name: lack_of(each) for each in deps.menu.unusable}
    if name in lacking:
        return VendorCheck(vendor=name, reach=Reach.UNUSABLE, detail=lacking[name])
    vendor = deps.vendors.get(name)
    if vendor is None:
        known = ", ".join(sorted({*lacking, *deps.vendors}))
        raise refuse(Code.NOT_FOUND, f"no vendor {name!r} here: use one of {known}")
    began_s = deps.clock.monotonic()
    reach, detail, status = await _asked(name, vendor, deps.ids.new("check"))
    took_s = round(deps.clock.monotonic() - began_s, 4)
    log.info("vendor_checked", vendor=name, reach=reach.value, http_status=status)
    return VendorCheck(
        vendor=name, reach=reach, detail=detail, http_status=status, took_s=took_s
    )


async def _asked(
    name: str, vendor: EmbeddingVendor, check_id: str
) -> tuple[Reach, str, int | None]:
    """Return what was found, in words as well, and the HTTP status."""
    try:
        status = await within(CHECK_S, _status(vendor, check_id), f"check {name}")
    except VendorError as error:
        failure = error.failure
        return reach_of(failure), failure.message, failure.status
    except DeadlineExceeded as fault:
        return Reach.UNREACHABLE, fault.detail, None
    return Reach.REACHABLE, f"{name} told its models", status


async def _status(vendor: EmbeddingVendor, check_id: str) -> int | None:
    status: int | None = None
    async with aclosing(vendor.models(check_id, CHECK_S)) as events:
        async for event in events:
            if isinstance(event, Started):
                status = event.http_status
    return status


async def _view(tenant: str | None, desk: Desk) -> Desk:
    """Return the desk as a tenant sees it, or as the platform itself does."""
    if tenant is not None:
        return await equipped(desk, tenant)
    return desk.seen_by("", offered(desk.deps))
