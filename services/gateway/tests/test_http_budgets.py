import httpx
import pytest
from gateway_world import Headers, ScriptedBus

from contracts.budgets import (
    ApplyBudget,
    Budget,
    BudgetPage,
    BudgetView,
    ListBudgets,
)
from contracts.message import Message

DOCUMENT = """
scope: {kind: tenant, id: acme}
period: month
limit_usd: "12.50"
time_zone: Asia/Shanghai
"""
YAML = {"content-type": "application/yaml"}


def view_of(budget: Budget) -> BudgetView:
    """Return a budget of which nothing is spent."""
    limit = budget.limit_pico_usd or 0
    return BudgetView(
        budget=budget,
        limit_pico_usd=limit,
        spent_pico_usd=0,
        held_pico_usd=0,
        free_pico_usd=limit,
    )


async def test_a_budget_is_put_as_a_document(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus
) -> None:
    """YAML or JSON; billing-meter is asked on the caller's behalf."""

    def apply(request: Message) -> Message:
        assert isinstance(request, ApplyBudget)
        assert request.tenant == "acme"
        return view_of(request.budget)

    bus.answers["budget-apply"] = apply
    put = await client.put("/v1/budgets", content=DOCUMENT, headers=acme | YAML)
    assert put.status_code == 200
    assert put.json()["free_pico_usd"] == 12_500_000_000_000
    again = await client.put("/v1/budgets", json=put.json()["budget"], headers=acme)
    assert again.json() == put.json()


async def test_budgets_are_listed_with_what_is_left(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus
) -> None:
    """A page of the caller's own."""
    budget = Budget.model_validate(
        {"scope": {"kind": "user", "id": "ada"}, "period": "day", "limit_usd": "1"}
    )
    page = BudgetPage(budgets=(view_of(budget),), next_cursor="user|day|ada")
    bus.answers["budget-list"] = lambda _: page
    found = await client.get("/v1/budgets?limit=1&cursor=x", headers=acme)
    assert found.json()["next_cursor"] == "user|day|ada"
    assert bus.asked[-1][1] == ListBudgets(tenant="acme", limit=1, cursor="x")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ('limit_usd: "12.50"', "/limit_usd"),
        ("time_zone: Asia/Shanghai", "/time_zone"),
        ("period: month", "/period"),
    ],
)
async def test_a_budget_that_is_none_is_refused(
    client: httpx.AsyncClient, acme: Headers, change: str, pointer: str
) -> None:
    """The answer names the field, before anybody is asked."""
    name = change.partition(":")[0]
    bad = DOCUMENT.replace(change, f"{name}: wrong")
    put = await client.put("/v1/budgets", content=bad, headers=acme | YAML)
    assert put.status_code == 400
    assert [each["pointer"] for each in put.json()["errors"]] == [pointer]
