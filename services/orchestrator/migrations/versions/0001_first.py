"""Runs: snapshots, briefs, histories, and the triggers that start them."""

import sqlalchemy as sa
from alembic import op

from persistence.migrations import create_shared_v1

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the orchestrator's tables."""
    create_shared_v1(op)
    op.create_table(
        "run",
        sa.Column("task_id", sa.String(), primary_key=True),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("employee", sa.String(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
    )
    place = ["created_at", "task_id"]
    op.create_index("ix_run_tenant", "run", ["tenant", *place])
    op.create_index("ix_run_status", "run", ["tenant", "status", *place])
    op.create_index("ix_run_employee", "run", ["tenant", "employee", *place])
    op.create_table(
        "brief",
        sa.Column("task_id", sa.String(), primary_key=True),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "run_event",
        sa.Column("task_id", sa.String(), primary_key=True),
        sa.Column("seq", sa.Integer(), primary_key=True),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "event_trigger",
        sa.Column("tenant", sa.String(), primary_key=True),
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
    )
