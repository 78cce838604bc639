"""Use cases: put limits on what may be spent, and tell what is left of them."""

import telemetry
from billing_meter.domain.limits import Account, Limit, view
from billing_meter.ports import Deps, Work
from contracts import subjects
from contracts.budgets import (
    ApplyBudget,
    BudgetPage,
    BudgetPeriod,
    BudgetView,
    GetBalances,
    LeaseRecall,
    ListBudgets,
    ScopeKind,
)
from contracts.problems import Code
from messaging.refusals import refuse

log = telemetry.get_logger()


async def apply_budget(request: ApplyBudget, deps: Deps) -> BudgetView:
    """
    Put a limit on a scope, change it or take it away.

    What was spent in the period before the limit was there counts. Replicas hear of
    it at once; calls that are under way go on.

    Raises:
        Refused: The budget is a tenant's, but not this one's.
    """
    now, budget = deps.clock.now(), request.budget
    if budget.scope.kind is ScopeKind.TENANT and budget.scope.id != request.tenant:
        detail = f"/scope/id: a budget of tenant {request.tenant} must name it"
        raise refuse(Code.INVALID, detail)
    limit = Limit(request.tenant, budget, budget.limit_pico_usd or 0)

    def transaction(work: Work) -> Account:
        books = work.books
        books.own(request.tenant)
        books.lapse(request.tenant, now)
        if budget.limit_pico_usd is None:
            books.lift(limit)
            return Account(limit, 0, 0)
        books.put_limit(limit)
        books.count_again(limit)
        (account,) = books.accounts([limit], now)
        return account

    account = await deps.store.run(transaction)
    log.info(
        "budget_applied",
        tenant=request.tenant,
        kind=budget.scope.kind.value,
        period=budget.period.value,
        limit_usd=budget.limit_usd,
    )
    recall = LeaseRecall(tenant=request.tenant, scopes=(budget.scope,))
    await deps.bells.announce(subjects.recall_leases(request.tenant), recall)
    deps.changes.ring()
    return view(account, now)


async def list_budgets(request: ListBudgets, deps: Deps) -> BudgetPage:
    """Return a page of a tenant's budgets, with what is spent, held and free."""
    after, now = _parsed(request.cursor), deps.clock.now()

    def query(work: Work) -> BudgetPage:
        limits = work.books.page(request.tenant, after, request.limit + 1)
        page = limits[: request.limit]
        more = len(limits) > request.limit
        return BudgetPage(
            budgets=tuple(view(each, now) for each in work.books.accounts(page, now)),
            next_cursor=_cursor(page[-1]) if more else None,
        )

    return await deps.store.read(query)


async def balances(request: GetBalances, deps: Deps) -> BudgetPage:
    """Return what is left of certain scopes."""
    now = deps.clock.now()

    def query(work: Work) -> BudgetPage:
        limits = work.books.limits(request.tenant, request.scopes)
        accounts = work.books.accounts(limits, now)
        return BudgetPage(budgets=tuple(view(each, now) for each in accounts))

    return await deps.store.read(query)


def _cursor(limit: Limit) -> str:
    kind, scope_id, period = limit.key
    return f"{kind}|{period}|{scope_id}"


def _parsed(cursor: str | None) -> tuple[str, str, str]:
    if cursor is None:
        return ("", "", "")
    kind, _, rest = cursor.partition("|")
    period, _, scope_id = rest.partition("|")
    if kind not in set(ScopeKind) or period not in set(BudgetPeriod):
        detail = f"{cursor!r} is no cursor of budgets: pass next_cursor as it came"
        raise refuse(Code.INVALID, detail)
    return (kind, scope_id, period)
