"""Budgets, what was spent of them, the leases that hold slices; charges by attempt."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# An attempt's later revision corrects its charge, so what is on the ledger has one.
# Only tenant and task are columns there; its place in the order is its time.
CHARGES_OF_LINES = """
INSERT INTO charge (attempt_id, tenant, task_id, charged_at, pico_usd)
SELECT attempt_id, tenant, task_id, position, pico_usd
FROM ledger_line WHERE in_force
"""


def upgrade() -> None:
    """Create the tables of the budgets."""
    op.create_table(
        "budget",
        sa.Column("tenant", sa.String(), primary_key=True),
        sa.Column("kind", sa.String(), primary_key=True),
        sa.Column("scope_id", sa.String(), primary_key=True),
        sa.Column("period", sa.String(), primary_key=True),
        sa.Column("pico_usd", sa.BigInteger(), nullable=False),
        sa.Column("is_hard", sa.Boolean(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
    )
    op.create_table(
        "budget_spent",
        sa.Column("tenant", sa.String(), primary_key=True),
        sa.Column("kind", sa.String(), primary_key=True),
        sa.Column("scope_id", sa.String(), primary_key=True),
        sa.Column("period", sa.String(), primary_key=True),
        sa.Column("bucket", sa.BigInteger(), primary_key=True),
        sa.Column("pico_usd", sa.BigInteger(), nullable=False),
    )
    _create_leases()
    op.create_table(
        "charge",
        sa.Column("attempt_id", sa.String(), primary_key=True),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("team", sa.String(), nullable=True),
        sa.Column("employee", sa.String(), nullable=True),
        sa.Column("task_id", sa.String(), nullable=True),
        sa.Column("end_user", sa.String(), nullable=True),
        sa.Column("api_key_id", sa.String(), nullable=True),
        sa.Column("lease_id", sa.String(), nullable=True),
        sa.Column("charged_at", sa.BigInteger(), nullable=False),
        sa.Column("pico_usd", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_charge_tenant_charged_at", "charge", ["tenant", "charged_at"])
    op.create_index("ix_charge_charged_at", "charge", ["charged_at"])
    op.execute(CHARGES_OF_LINES)


def _create_leases() -> None:
    op.create_table(
        "budget_lease",
        sa.Column("lease_id", sa.String(), primary_key=True),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("instance", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("granted", sa.BigInteger(), nullable=False),
        sa.Column("cap", sa.BigInteger(), nullable=False),
        sa.Column("seen", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("seen_attempts", sa.Integer(), nullable=False),
        sa.Column("told_attempts", sa.Integer(), nullable=True),
        sa.Column("is_hard", sa.Boolean(), nullable=False),
        sa.Column("granted_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_budget_lease_tenant_state", "budget_lease", ["tenant", "state"])
    op.create_index("ix_budget_lease_ends_at", "budget_lease", ["ends_at"])
    op.create_table(
        "budget_lease_scope",
        sa.Column("lease_id", sa.String(), primary_key=True),
        sa.Column("kind", sa.String(), primary_key=True),
        sa.Column("scope_id", sa.String(), primary_key=True),
        sa.Column("tenant", sa.String(), nullable=False),
    )
    op.create_index(
        "ix_budget_lease_scope_of",
        "budget_lease_scope",
        ["tenant", "kind", "scope_id"],
    )
