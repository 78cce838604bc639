"""Equal questions find an earlier answer."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the digests of questions that were answered."""
    op.create_table(
        "cached_answer",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("question", sa.String(), nullable=False),
        sa.Column("completion_id", sa.String(), nullable=False),
        sa.Column("vendor", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("answered_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "question"),
    )
    op.create_index(
        "ix_cached_answer_completion", "cached_answer", ["tenant", "completion_id"]
    )
