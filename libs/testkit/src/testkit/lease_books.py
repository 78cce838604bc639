"""What the meter's store says of budgets, read by statements that are not its own."""

from collections import Counter
from typing import Final

from sqlalchemy import Connection

from contracts.budgets import ScopeKind
from testkit.lease_oracle import Books, Scope

COLUMN_OF: Final = {
    ScopeKind.TENANT: "tenant",
    ScopeKind.TEAM: "team",
    ScopeKind.EMPLOYEE: "employee",
    ScopeKind.USER: "end_user",
    ScopeKind.API_KEY: "api_key_id",
    ScopeKind.TASK: "task_id",
}
"""Where the store has whom a charge counts against."""


def books(conn: Connection) -> Books:
    """Read limits, buckets and leases that are not closed."""
    limits = conn.exec_driver_sql("SELECT kind, scope_id, pico_usd FROM budget")
    spent = conn.exec_driver_sql(
        "SELECT kind, scope_id, SUM(pico_usd) FROM budget_spent GROUP BY 1, 2"
    )
    held = conn.exec_driver_sql(
        "SELECT s.kind, s.scope_id, l.instance, SUM(l.held) FROM budget_lease l"
        " JOIN budget_lease_scope s ON s.lease_id = l.lease_id"
        " WHERE l.tenant IN (SELECT tenant FROM budget)"
        " AND l.state IN ('open', 'returned') GROUP BY 1, 2, 3"
    )
    return Books(
        {f"{kind}:{name}": amount for kind, name, amount in limits},
        {f"{kind}:{name}": amount for kind, name, amount in spent},
        {(f"{kind}:{name}", who): amount for kind, name, who, amount in held},
    )


def charges(conn: Connection) -> dict[str, int]:
    """Return what each attempt was charged; -1 where the ledger says otherwise."""
    rows = conn.exec_driver_sql(
        "SELECT c.attempt_id, c.pico_usd, l.pico_usd FROM charge c"
        " JOIN ledger_line l ON l.attempt_id = c.attempt_id AND l.in_force"
    )
    return {name: charged if charged == line else -1 for name, charged, line in rows}


def charged(conn: Connection) -> Counter[Scope]:
    """Return what all attempts together were charged, by what it counts against."""
    found: Counter[Scope] = Counter()
    for kind, column in COLUMN_OF.items():
        # A column of the table above, never of anybody's choice.
        query = f"SELECT {column}, SUM(pico_usd) FROM charge GROUP BY 1"  # noqa: S608
        for name, pico_usd in conn.exec_driver_sql(query):
            if name is not None:
                found[f"{kind}:{name}"] += pico_usd
    return found


def leases(conn: Connection) -> Counter[str]:
    """Return how many leases there were, by how they ended."""
    rows = conn.exec_driver_sql(
        "SELECT CASE WHEN told_attempts IS NULL THEN 'lapsed' ELSE 'returned' END,"
        " COUNT(*) FROM budget_lease WHERE granted > 0 GROUP BY 1"
    )
    return Counter({f"slices {how}": count for how, count in rows})
