"""Tenants, their keys, and the tasks that were accepted for them."""

import sqlalchemy as sa
from alembic import op

from persistence.migrations import create_shared_v1

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the gateway's tables."""
    create_shared_v1(op)
    op.create_table(
        "tenant",
        sa.Column("tenant", sa.String(), primary_key=True),
        sa.Column("nats_password_hash", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "api_key",
        sa.Column("key_id", sa.String(), primary_key=True),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("secret_hash", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
    )
    op.create_index("ix_api_key_tenant", "api_key", ["tenant"])
    op.create_table(
        "submission",
        sa.Column("task_id", sa.String(), primary_key=True),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("view", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_submission_created_at", "submission", ["created_at"])
