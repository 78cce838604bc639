"""Optimistic versions: an update that lost a race says so and changes nothing."""

from collections.abc import Mapping
from functools import lru_cache

from sqlalchemy import Connection, Table, Update, bindparam, update

from faults import TransientFault


class StaleVersion(TransientFault):
    """Someone else saved the row first; load, decide and save again."""

    code = "stale-version"


def update_versioned(
    conn: Connection,
    table: Table,
    key: Mapping[str, object],
    version: int,
    values: Mapping[str, object],
) -> None:
    """
    Update one row if it still has the version that was read, and count it up.

    Args:
        conn: The transaction's connection.
        table: A table with an integer column ``version``.
        key: Column name → value; must name at most one row.
        version: The version that was loaded; the row is left at ``version + 1``.
        values: Column name → new value, without ``version``.

    Raises:
        StaleVersion: No row has this key and this version.
    """
    statement = _statement(table, tuple(key), tuple(values))
    parameters: dict[str, object] = {f"key_{name}": key[name] for name in key}
    parameters.update({f"set_{name}": values[name] for name in values})
    parameters["key_version"] = version
    parameters["set_version"] = version + 1
    if conn.execute(statement, parameters).rowcount != 1:
        detail = f"{table.name} {dict(key)} is no longer at version {version}: retry"
        raise StaleVersion(detail)


@lru_cache(maxsize=512)
def _statement(table: Table, keys: tuple[str, ...], columns: tuple[str, ...]) -> Update:
    return (
        update(table)
        .where(*(table.c[name] == bindparam(f"key_{name}") for name in keys))
        .where(table.c.version == bindparam("key_version"))
        .values(
            {name: bindparam(f"set_{name}") for name in (*columns, "version")},
        )
    )
