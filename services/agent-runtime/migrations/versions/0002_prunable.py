"""Steps are found by the age of their end, to be forgotten."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Index when a step ended."""
    op.create_index("ix_step_finished_at", "step", ["finished_at"])
