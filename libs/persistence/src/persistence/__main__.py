"""``python -m persistence migrate URL FOLDER``: bring a store to its head."""

import argparse
import asyncio
import sys
from pathlib import Path

from determinism import SystemClock
from faults import Fault
from persistence.database import open_database
from persistence.migrations import head_of


async def migrate(url: str, migrations: Path) -> str:
    """Migrate and return the revision that the store is at, at least."""
    database = await open_database(url, migrations=migrations, clock=SystemClock())
    await database.close()
    return head_of(migrations)


def main() -> int:
    """Run the command; the exit code tells whether the store is at its head."""
    parser = argparse.ArgumentParser(prog="python -m persistence")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("migrate", help="bring a store to its head")
    command.add_argument("url", help="sqlite:///… or postgresql://…")
    command.add_argument("folder", type=Path, help="the service's migrations folder")
    arguments = parser.parse_args()
    try:
        revision = asyncio.run(migrate(arguments.url, arguments.folder))
    except Fault as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    sys.stdout.write(f"at revision {revision}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
