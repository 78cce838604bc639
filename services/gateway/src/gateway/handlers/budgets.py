"""Budgets, which billing-meter owns."""

from contracts import subjects
from contracts.budgets import ApplyBudget, BudgetPage, BudgetView, ListBudgets
from gateway.ports import Deps


async def apply_budget(request: ApplyBudget, deps: Deps) -> BudgetView:
    """Put a limit on a scope, change it or take it away."""
    address = subjects.BUDGET_APPLY.to(request.tenant)
    return await deps.peers.request(
        address, request, BudgetView, timeout_s=deps.peer_timeout_s
    )


async def list_budgets(request: ListBudgets, deps: Deps) -> BudgetPage:
    """Return a page of budgets."""
    address = subjects.BUDGET_LIST.to(request.tenant)
    return await deps.peers.request(
        address, request, BudgetPage, timeout_s=deps.peer_timeout_s
    )
