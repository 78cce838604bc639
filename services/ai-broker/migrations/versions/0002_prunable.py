"""Completions are found by age, to be forgotten."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Index when a claim ended."""
    op.create_index("ix_completion_until", "completion", ["until"])
