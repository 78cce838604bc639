"""
Forward-only migrations: a service's folder holds ``versions/NNNN_name.py``, no more.

Files are numbered in one line: the revision is the number (``"0001"``) and each
names its predecessor. So a starter knows its head from the file names, and one SELECT
tells whether the store is there; Alembic is imported only when it is not. A store
beyond the head is fine: version N-1 of a service runs on the schema of N (expand,
migrate, contract).

    # services/gateway/migrations/versions/0001_first.py
    from alembic import op
    from persistence.migrations import create_shared_v1

    revision = "0001"
    down_revision = None

    def upgrade() -> None:
        create_shared_v1(op)
        op.create_table(...)
"""

import threading
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, MetaData, text
from sqlalchemy.exc import DBAPIError

from faults import PermanentFault, TransientFault
from persistence.shared_v1 import create_shared_v1

__all__ = [
    "create_shared_v1",
    "differences",
    "head_of",
    "migrate",
    "require_head",
    "revision_of",
]

# Alembic's ``op`` is a global of the process: one migration at a time in each.
_ALEMBIC_LOCK: Final = threading.Lock()


def head_of(migrations: Path) -> str:
    """
    Return the newest revision of a migrations folder, by its file names.

    Raises:
        PermanentFault: The folder has no ``versions/NNNN_*.py``.
    """
    pattern = "[0-9][0-9][0-9][0-9]_*.py"
    names = sorted(path.name for path in (migrations / "versions").glob(pattern))
    if not names:
        detail = f"{migrations} has no versions/NNNN_name.py: is the path right?"
        raise PermanentFault(detail, code="migrations-missing")
    return names[-1][:4]


def revision_of(connection: Connection) -> str | None:
    """Return the store's revision; None when nothing was ever migrated."""
    try:
        # A failed statement aborts PostgreSQL's transaction: fail in a savepoint.
        with connection.begin_nested():
            found = connection.execute(text("SELECT version_num FROM alembic_version"))
            return found.scalar_one_or_none()
    except DBAPIError as error:
        if _says_absent(error):
            return None
        raise


def store_id_of(connection: Connection) -> str:
    """Return the random id that the store got at its first migration."""
    found: str = connection.execute(
        text("SELECT store_id FROM store_identity WHERE singleton = 1")
    ).scalar_one()
    return found


def require_head(connection: Connection, head: str) -> None:
    """
    Check that the store is at ``head`` or beyond.

    Raises:
        TransientFault: It is not (yet); some starter has to migrate it.
    """
    revision = revision_of(connection)
    if revision is None or revision < head:
        detail = (
            f"the store is at revision {revision}, this version needs {head}: "
            "run `python -m persistence migrate URL FOLDER`"
        )
        raise TransientFault(detail, code="migrations-behind")


def migrate(connection: Connection, migrations: Path) -> None:
    """
    Bring the store to the folder's head inside the connection's transaction.

    The caller holds the store's migration lock, begins and commits.

    Raises:
        PermanentFault: The files do not form one numbered line.
    """
    head = head_of(migrations)
    revision = revision_of(connection)
    if revision is not None and revision >= head:
        return  # another starter, perhaps of a newer version, was here first
    from persistence import upgrade  # noqa: PLC0415 - Alembic costs 0.1 s of CPU

    with _ALEMBIC_LOCK:
        upgrade.to_head(connection, migrations, head)


def differences(connection: Connection, metadata: MetaData) -> list[str]:
    """
    Say where the migrated store and the declared tables differ; empty when nowhere.

    For a test in each service: its migrations must build what its tables declare.
    """
    from persistence import upgrade  # noqa: PLC0415 - only tests pay for it

    return upgrade.differences(connection, metadata)


def _says_absent(error: DBAPIError) -> bool:
    undefined_table = "42P01"
    if getattr(error.orig, "sqlstate", None) == undefined_table:
        return True
    return "no such table" in str(error.orig)
