"""What the gateway answers on NATS."""

from contracts import subjects
from contracts.delivery import Nothing
from contracts.tenants import Tenants
from gateway.handlers import tenants
from gateway.ports import Deps
from messaging.bus import Delivery
from messaging.subscriptions import Answer, Subscription


def subscriptions(deps: Deps) -> tuple[Subscription, ...]:
    """Bind every subject to its handler."""

    async def on_tenants(_request: Nothing, _delivery: Delivery) -> Tenants:
        return await tenants.list_tenants(deps)

    return (Answer(subjects.TENANTS, Nothing, on_tenants),)
