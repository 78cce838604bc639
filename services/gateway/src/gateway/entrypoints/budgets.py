"""Budgets over HTTP: limits, and what is spent, held and free of them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from contracts.budgets import (
    ApplyBudget,
    Budget,
    BudgetPage,
    BudgetView,
    ListBudgets,
)
from gateway.entrypoints.documents import body_of, document_of
from gateway.entrypoints.identity import DepsOf, TenantOf
from gateway.handlers import budgets

BudgetBody = Annotated[Budget, Depends(document_of(Budget))]

routes = APIRouter(prefix="/v1")


@routes.put("/budgets", tags=["money"], openapi_extra=body_of(Budget))
async def apply_budget(
    budget: BudgetBody, tenant: TenantOf, deps: DepsOf
) -> BudgetView:
    """Put a limit on a scope and period, change it, or take it away with null."""
    request = ApplyBudget(tenant=tenant, budget=budget)
    return await budgets.apply_budget(request, deps)


@routes.get("/budgets", tags=["money"])
async def list_budgets(
    tenant: TenantOf,
    deps: DepsOf,
    limit: Annotated[int, Query(ge=1, le=200)] = 100,
    cursor: Annotated[str | None, Query(max_length=400)] = None,
) -> BudgetPage:
    """List budgets by scope and period, with what is spent, held and free."""
    request = ListBudgets(tenant=tenant, limit=limit, cursor=cursor)
    return await budgets.list_budgets(request, deps)
