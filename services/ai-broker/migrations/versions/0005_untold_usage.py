"""Settled attempts wait to be told to the ledger in batches."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Mark what the ledger was not told; what is there was owed one by one."""
    told = sa.Column("is_told", sa.Boolean(), nullable=False, server_default=sa.true())
    op.add_column("attempt", told)
    op.add_column("attempt", sa.Column("trace", sa.String(), nullable=True))
    op.create_index(
        "ix_attempt_untold",
        "attempt",
        ["tenant", "attempt_id"],
        sqlite_where=sa.text("NOT is_told"),
        postgresql_where=sa.text("NOT is_told"),
    )
