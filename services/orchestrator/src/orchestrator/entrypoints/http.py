"""The service's face: what must answer before it is ready."""

from collections.abc import Awaitable, Callable, Mapping

from persistence.database import Database


def checks(database: Database) -> Mapping[str, Callable[[], Awaitable[None]]]:
    """Return the readiness checks: its own store, never another service."""
    return {"store": database.check}
