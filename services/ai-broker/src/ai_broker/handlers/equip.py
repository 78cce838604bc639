"""A tenant's view of the desk: its own keys in the place of the platform's."""

import copy
from dataclasses import replace

from ai_broker.handlers.desk import Desk
from ai_broker.ports import Deps


async def equipped(desk: Desk, tenant: str) -> Desk:
    """Return the desk as this tenant's questions need it; the work on it is shared."""
    deps = await deps_for(desk.deps, tenant)
    if deps.menu.own:
        return desk.seen_by(tenant, deps)
    # One version of the catalogue for the whole request, whatever is taken meanwhile.
    view = copy.copy(desk)
    view.deps = deps
    return view


async def deps_for(deps: Deps, tenant: str) -> Deps:
    """Return the dependencies with the vendors that the tenant has own keys for."""
    deps = offered(deps)
    own = await deps.own.of(tenant)
    if not own.entries:
        return deps
    return replace(
        deps,
        vendors={**deps.vendors, **own.vendors},
        menu=deps.menu.with_own(own.entries),
    )


def offered(deps: Deps) -> Deps:
    """Return the dependencies with what can be called now, for one request's time."""
    if deps.offers is None:
        return deps
    offer = deps.offers.now()
    return replace(deps, vendors=offer.vendors, menu=offer.menu, keyable=offer.keyable)
