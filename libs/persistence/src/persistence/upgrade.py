"""Alembic, driven without an ``env.py``; imported only when there is work to do."""

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData

from faults import PermanentFault


def to_head(connection: Connection, migrations: Path, head: str) -> None:
    """
    Run what lies between the store's revision and ``head``.

    Raises:
        PermanentFault: The files do not form one numbered line ending in ``head``.
    """
    script = ScriptDirectory(str(migrations))
    _require_one_line(script, migrations, head)

    def steps(revision: object, _context: MigrationContext) -> list[RevisionStep]:
        # Alembic's own `upgrade` command passes exactly this to its environment;
        # it has no public name for it.
        upgrade_steps = script._upgrade_revs  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return upgrade_steps(head, revision)  # type: ignore[arg-type]

    with EnvironmentContext(Config(), script, fn=steps) as environment:
        # The caller's transaction holds it all: a failed migration leaves nothing.
        environment.configure(connection=connection, transactional_ddl=True)
        environment.run_migrations()


def differences(connection: Connection, metadata: MetaData) -> list[str]:
    """Compare the store with the declared tables; see ``migrations.differences``."""
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return [str(difference) for difference in compare_metadata(context, metadata)]


def _require_one_line(script: ScriptDirectory, migrations: Path, head: str) -> None:
    try:
        revisions = [each.revision for each in script.walk_revisions()]
    except CommandError as cause:
        detail = f"{migrations}: {cause}"
        raise PermanentFault(detail, code="migrations-invalid") from cause
    expected = [f"{number:04d}" for number in range(int(head), 0, -1)]
    if revisions != expected:
        detail = (
            f"{migrations} has revisions {revisions}, expected {expected}: number the "
            "files 0001, 0002, … and name each one's predecessor in down_revision"
        )
        raise PermanentFault(detail, code="migrations-invalid")
