"""When a run ended, so that old ones can be forgotten."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the time; for runs that have ended already, that of their newest event."""
    op.add_column("run", sa.Column("finished_at", sa.BigInteger(), nullable=True))
    op.create_index("ix_run_finished_at", "run", ["finished_at"])
    op.execute(
        "UPDATE run SET finished_at = (SELECT max(at) FROM run_event"
        " WHERE run_event.task_id = run.task_id)"
        " WHERE status IN ('completed', 'failed', 'cancelled')"
    )
