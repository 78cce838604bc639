"""The ledger: keys of usage, lines, entries and the rollup by task."""

import sqlalchemy as sa
from alembic import op

from persistence.migrations import create_shared_v1

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create billing-meter's tables."""
    create_shared_v1(op)
    op.create_table(
        "usage_key",
        sa.Column("attempt_id", sa.String(), primary_key=True),
        sa.Column("revision", sa.Integer(), primary_key=True),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("occurred_at", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "ledger_line",
        sa.Column("transaction_id", sa.String(), primary_key=True),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("attempt_id", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("task_id", sa.String(), nullable=True),
        sa.Column("in_force", sa.Boolean(), nullable=False),
        sa.Column("reverses_id", sa.String(), nullable=True),
        sa.Column("pico_usd", sa.BigInteger(), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
    )
    op.create_index("ix_ledger_line_position", "ledger_line", ["position"])
    op.create_index(
        "ix_ledger_line_tenant_task", "ledger_line", ["tenant", "task_id", "position"]
    )
    op.create_index(
        "ux_ledger_line_in_force",
        "ledger_line",
        ["attempt_id"],
        unique=True,
        sqlite_where=sa.text("in_force"),
        postgresql_where=sa.text("in_force"),
    )
    op.create_table(
        "ledger_entry",
        sa.Column("transaction_id", sa.String(), primary_key=True),
        sa.Column("account", sa.String(), primary_key=True),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("pico_usd", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "task_rollup",
        sa.Column("tenant", sa.String(), primary_key=True),
        sa.Column("task_id", sa.String(), primary_key=True),
        sa.Column("pico_usd", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("estimated_attempts", sa.Integer(), nullable=False),
    )
