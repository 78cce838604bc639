"""The shared tables."""

from alembic import op

from persistence.migrations import create_shared_v1

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the shared tables."""
    create_shared_v1(op)
