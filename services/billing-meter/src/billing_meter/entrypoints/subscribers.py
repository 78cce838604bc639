"""What billing-meter listens to, one function per subject."""

from billing_meter import handlers
from billing_meter.ports import Deps
from contracts import subjects
from contracts.ledger import GetTaskCost, LedgerPage, ListLedger, TaskCosts
from contracts.prices import GetPrices, PriceBook
from contracts.usage import UsageBatch
from messaging.bus import Delivery
from messaging.subscriptions import Answer, Subscription, Work


def subscriptions(deps: Deps) -> tuple[Subscription, ...]:
    """Bind every subject to its handler."""

    async def on_usage_recorded(batch: UsageBatch, delivery: Delivery) -> None:
        await handlers.meter_usage(batch, delivery, deps)

    async def on_task_cost(request: GetTaskCost, _delivery: Delivery) -> TaskCosts:
        return await handlers.task_costs(request, deps)

    async def on_ledger(request: ListLedger, _delivery: Delivery) -> LedgerPage:
        return await handlers.ledger(request, deps)

    async def on_prices(request: GetPrices, _delivery: Delivery) -> PriceBook:
        return await handlers.prices(request, deps)

    return (
        Work(subjects.USAGE, UsageBatch, on_usage_recorded),
        Answer(subjects.TASK_COST, GetTaskCost, on_task_cost),
        Answer(subjects.LEDGER, ListLedger, on_ledger),
        Answer(subjects.PRICES, GetPrices, on_prices),
    )
