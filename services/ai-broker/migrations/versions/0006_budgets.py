"""What attempts reserve, the slices that they reserve from, and tenants' limits."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the reservation to attempts; create the tables of slices and profiles."""
    op.add_column("attempt", sa.Column("lease_id", sa.String(), nullable=True))
    op.add_column(
        "attempt",
        sa.Column(
            "reserved_pico_usd", sa.BigInteger(), nullable=False, server_default="0"
        ),
    )
    op.create_index("ix_attempt_lease_id", "attempt", ["lease_id"])
    op.create_table(
        "budget_slice",
        sa.Column("lease_id", sa.String(), primary_key=True),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("instance", sa.String(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("is_closed", sa.Boolean(), nullable=False),
    )
    op.create_index("ix_budget_slice_until", "budget_slice", ["until"])
    op.create_table(
        "budget_profile",
        sa.Column("tenant", sa.String(), primary_key=True),
        sa.Column("limited", sa.String(), nullable=False),
        sa.Column("hard", sa.String(), nullable=False),
    )
