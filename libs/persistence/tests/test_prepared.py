"""A prepared statement means on every store what SQLAlchemy would make of it."""

from datetime import UTC, datetime
from typing import Final

import pytest
from sqlalchemy import Connection, Executable, Table, bindparam, select, update
from sqlalchemy.exc import IntegrityError

from persistence.database import Database
from persistence.prepared import Prepared, whole_row
from persistence.tables import DialectName

ROW: Final = {
    "id": "a",
    "balance": 7,
    "opened_at": datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC),
    "note": {"Grüße": [1, None]},
    "version": 1,
}


def added(account: Table, *, tolerant: bool = False) -> Prepared:
    """Return an INSERT of one account."""

    def build(dialect: DialectName) -> Executable:
        statement = whole_row(account, dialect)
        return statement.on_conflict_do_nothing() if tolerant else statement

    return Prepared(build)


def found(account: Table) -> Prepared:
    """Return a SELECT of the accounts with a balance above some."""
    query = select(account).where(account.c.balance > bindparam("at_least"))
    return Prepared(lambda _: query.order_by(account.c.id))


async def test_values_go_in_and_come_out_by_their_types(
    database: Database, account: Table
) -> None:
    """Instants, JSON and NULL survive; SQLAlchemy reads what was written."""
    empty = ROW | {"id": "b", "opened_at": None, "note": None}

    def transaction(conn: Connection) -> None:
        assert added(account).change(conn, ROW) == 1
        assert added(account).change(conn, empty) == 1

    await database.run(transaction)
    rows = await database.read(lambda c: found(account).rows(c, {"at_least": 6}))
    names = [each.name for each in account.columns]
    assert [{name: getattr(row, name) for name in names} for row in rows] == [
        ROW,
        empty,
    ]
    plain = await database.read(lambda c: c.execute(select(account)).mappings().all())
    assert [dict(row) for row in plain] == [ROW, empty]


async def test_no_row_is_none(database: Database, account: Table) -> None:
    """``first`` of nothing is None, and ``rows`` is empty."""
    none = {"at_least": 6}
    assert await database.read(lambda c: found(account).first(c, none)) is None
    assert list(await database.read(lambda c: found(account).rows(c, none))) == []


async def test_changed_rows_are_counted(database: Database, account: Table) -> None:
    """A conflict and a WHERE that finds nothing change no row; constants count."""
    tolerant = added(account, tolerant=True)
    change = (
        update(account)
        .where(account.c.id == bindparam("at_id"), account.c.version == 1)
        .values(balance=bindparam("balance"), version=2)
    )
    raised = Prepared(lambda _: change)

    def transaction(conn: Connection) -> list[int]:
        return [
            tolerant.change(conn, ROW),
            tolerant.change(conn, ROW),
            raised.change(conn, {"at_id": "a", "balance": 8}),
            raised.change(conn, {"at_id": "a", "balance": 9}),
            raised.change(conn, {"at_id": "none", "balance": 9}),
        ]

    assert await database.run(transaction) == [1, 0, 1, 0, 0]
    row = await database.read(lambda c: found(account).first(c, {"at_least": 0}))
    assert row is not None
    assert (row.balance, row.version) == (8, 2)


async def test_violated_constraint_is_an_integrity_error(
    database: Database, account: Table
) -> None:
    """As with any other statement; the values are not in its text."""
    await database.run(lambda conn: added(account).change(conn, ROW))
    with pytest.raises(IntegrityError) as raised:
        await database.run(lambda conn: added(account).change(conn, ROW))
    assert "Grüße" not in str(raised.value)


async def test_missing_value_is_said(database: Database, account: Table) -> None:
    """A value that was forgotten is an error, not NULL."""
    forgotten = {name: value for name, value in ROW.items() if name != "balance"}
    with pytest.raises(Exception, match="balance"):
        await database.run(lambda conn: added(account).change(conn, forgotten))
    rows = await database.read(lambda c: found(account).rows(c, {"at_least": 0}))
    assert list(rows) == []


async def test_values_that_the_statement_does_not_name_are_left_alone(
    database: Database, account: Table
) -> None:
    """A whole row may be handed to a statement that changes a part of it."""
    change = (
        update(account)
        .where(account.c.id == bindparam("at_id"))
        .values(version=bindparam("version"))
    )
    versioned = Prepared(lambda _: change)
    other = ROW | {"at_id": "a", "version": 2, "balance": 99}

    def transaction(conn: Connection) -> None:
        added(account).change(conn, ROW)
        assert versioned.change(conn, other) == 1
        versioned.change_all(conn, [other | {"version": 3}])

    await database.run(transaction)
    row = await database.read(lambda c: found(account).first(c, {"at_least": 0}))
    assert row is not None
    assert (row.version, row.balance) == (3, 7)
