"""Use cases: meter usage, tell what things cost, hand out money in leases."""

from billing_meter.handlers.budgets import apply_budget, balances, list_budgets
from billing_meter.handlers.leases import lease, return_lease
from billing_meter.handlers.upkeep import keep_forever, measure
from billing_meter.handlers.usage import ledger, meter_usage, prices, task_costs

__all__ = [
    "apply_budget",
    "balances",
    "keep_forever",
    "lease",
    "ledger",
    "list_budgets",
    "measure",
    "meter_usage",
    "prices",
    "return_lease",
    "task_costs",
]
