"""What billing-meter listens to, one function per subject."""

from billing_meter import handlers
from billing_meter.ports import Deps
from contracts import subjects
from contracts.budgets import (
    ApplyBudget,
    BudgetPage,
    BudgetView,
    GetBalances,
    LeaseReply,
    LeaseRequest,
    LeaseReturn,
    ListBudgets,
)
from contracts.delivery import Nothing
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

    async def on_lease(request: LeaseRequest, _delivery: Delivery) -> LeaseReply:
        return await handlers.lease(request, deps)

    async def on_lease_return(message: LeaseReturn, _delivery: Delivery) -> Nothing:
        return await handlers.return_lease(message, deps)

    async def on_budget_apply(request: ApplyBudget, _delivery: Delivery) -> BudgetView:
        return await handlers.apply_budget(request, deps)

    async def on_budget_list(request: ListBudgets, _delivery: Delivery) -> BudgetPage:
        return await handlers.list_budgets(request, deps)

    async def on_balances(request: GetBalances, _delivery: Delivery) -> BudgetPage:
        return await handlers.balances(request, deps)

    return (
        Work(subjects.USAGE, UsageBatch, on_usage_recorded),
        Answer(subjects.TASK_COST, GetTaskCost, on_task_cost),
        Answer(subjects.LEDGER, ListLedger, on_ledger),
        Answer(subjects.PRICES, GetPrices, on_prices),
        # They wait for money, so many may wait at once.
        Answer(subjects.LEASE, LeaseRequest, on_lease, concurrency=1_024),
        Answer(subjects.LEASE_RETURN, LeaseReturn, on_lease_return),
        Answer(subjects.BUDGET_APPLY, ApplyBudget, on_budget_apply),
        Answer(subjects.BUDGET_LIST, ListBudgets, on_budget_list),
        Answer(subjects.BALANCES, GetBalances, on_balances),
    )
