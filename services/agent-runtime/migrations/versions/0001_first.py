"""Employees, steps, their transcripts, and vendor calls made in vain."""

import sqlalchemy as sa
from alembic import op

from persistence.migrations import create_shared_v1

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create agent-runtime's tables."""
    create_shared_v1(op)
    op.create_table(
        "employee",
        sa.Column("tenant", sa.String(), primary_key=True),
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "step",
        sa.Column("step_id", sa.String(), primary_key=True),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("message_id", sa.String(), nullable=False),
        sa.Column("brief", sa.LargeBinary(), nullable=True),
        sa.Column("employee_version", sa.Integer(), nullable=True),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("began_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("carrier", sa.Text(), nullable=False),
    )
    op.create_index("ix_step_message_id", "step", ["message_id"])
    op.create_index("ix_step_tenant_task_id", "step", ["tenant", "task_id"])
    op.create_table(
        "transcript",
        sa.Column("step_id", sa.String(), primary_key=True),
        sa.Column("turn", sa.Integer(), primary_key=True),
        sa.Column("kind", sa.String(), primary_key=True),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "vain_attempt",
        sa.Column("step_id", sa.String(), primary_key=True),
        sa.Column("attempt_id", sa.String(), primary_key=True),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
    )
