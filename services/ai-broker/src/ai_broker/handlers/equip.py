"""A tenant's view of the desk: its own keys in the place of the platform's."""

from dataclasses import replace

from ai_broker.handlers.desk import Desk
from ai_broker.ports import Deps


async def equipped(desk: Desk, tenant: str) -> Desk:
    """Return the desk as this tenant's questions need it; the work on it is shared."""
    deps = await deps_for(desk.deps, tenant)
    return desk if deps is desk.deps else desk.seen_by(tenant, deps)


async def deps_for(deps: Deps, tenant: str) -> Deps:
    """Return the dependencies with the vendors that the tenant has own keys for."""
    own = await deps.own.of(tenant)
    if not own.entries:
        return deps
    return replace(
        deps,
        vendors={**deps.vendors, **own.vendors},
        menu=deps.menu.with_own(own.entries),
    )
