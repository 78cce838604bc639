"""How old an answer the questions of a key take, unless they say."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the age; keys that there are take none, as before."""
    op.add_column("api_key", sa.Column("cache_ttl_s", sa.BigInteger(), nullable=True))
