"""
Statements of the hot path: built and compiled once, run many times.

SQLAlchemy builds, hashes and looks up a statement anew for each execution, which costs
ten times what SQLite needs to run it. On SQLite a prepared statement therefore goes to
the driver as it was compiled, with the types' own conversions; elsewhere, where the
network costs more than that, it goes through SQLAlchemy. Both give the same rows.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import (
    BindParameter,
    Connection,
    Dialect,
    Executable,
    Select,
    Table,
    bindparam,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.types import TypeEngine

from persistence.tables import DialectName, dialect_of, insert_into

if TYPE_CHECKING:
    import sqlite3 as driver
else:
    from pysqlite3 import dbapi2 as driver

# Any: what a column's type makes of a value, and a row's fields, are the table's.
Convert = Callable[[Any], Any]
Row = Any
Values = Mapping[str, object]


def parameters(names: Iterable[str]) -> dict[str, BindParameter[Any]]:
    """Return a parameter for each column, of its name and type."""
    return {name: bindparam(name) for name in names}


def whole_row(table: Table, dialect: DialectName) -> sqlite.Insert | postgresql.Insert:
    """Return an INSERT of a row with all of its columns."""
    names = (column.name for column in table.columns)
    return insert_into(table, dialect).values(parameters(names))


class Prepared:
    """
    A statement with named ``bindparam``s, or an INSERT of whole rows.

    Values that it does not name are left alone, so a whole row may be handed in. A
    violated constraint is SQLAlchemy's ``IntegrityError`` on either dialect.

    Args:
        build: Makes it for a dialect; called once for each.
    """

    def __init__(self, build: Callable[[DialectName], Executable]) -> None:
        self._build = build
        self._compiled: _Compiled | None = None
        self._stated: _Stated | None = None

    def change(self, conn: Connection, values: Values) -> int:
        """Run it; return how many rows it has changed."""
        if dialect_of(conn) == "sqlite":
            return self._on_sqlite(conn, values).rowcount
        stated = self._elsewhere(conn.dialect)
        return conn.execute(stated.statement, stated.own(values)).rowcount

    def change_all(self, conn: Connection, values: Sequence[Values]) -> None:
        """Run it once for each of many."""
        if not values:
            return
        if dialect_of(conn) == "sqlite":
            compiled = self._for_sqlite(conn.dialect)
            with _as_integrity_error(compiled):
                bound = (compiled.bound(each) for each in values)
                _raw(conn).executemany(compiled.text, bound)
        else:
            stated = self._elsewhere(conn.dialect)
            conn.execute(stated.statement, [stated.own(each) for each in values])

    def rows(self, conn: Connection, values: Values) -> Sequence[Row]:
        """Run it; return its rows, with a field for each column."""
        if dialect_of(conn) == "sqlite":
            cursor = self._on_sqlite(conn, values)
            return self._for_sqlite(conn.dialect).rows_of(cursor)
        stated = self._elsewhere(conn.dialect)
        return conn.execute(stated.statement, stated.own(values)).all()

    def first(self, conn: Connection, values: Values) -> Row | None:
        """Run it; return its first row."""
        return next(iter(self.rows(conn, values)), None)

    def _on_sqlite(self, conn: Connection, values: Values) -> "driver.Cursor":
        compiled = self._for_sqlite(conn.dialect)
        with _as_integrity_error(compiled):
            return _raw(conn).execute(compiled.text, compiled.bound(values))

    def _for_sqlite(self, dialect: Dialect) -> "_Compiled":
        if self._compiled is None:
            self._compiled = _compiled(self._build("sqlite"), dialect)
        return self._compiled

    def _elsewhere(self, dialect: Dialect) -> "_Stated":
        if self._stated is None:
            statement = self._build("postgresql")
            binds = _sql_of(statement, dialect).binds.values()
            names = frozenset(each.key for each in binds if each.required)
            self._stated = _Stated(statement, names)
        return self._stated


@dataclass(frozen=True)
class _Stated:
    """What SQLAlchemy is given, and the values that it may be told."""

    statement: Executable
    names: frozenset[str]

    def own(self, values: Values) -> Values:
        """Return the statement's values: SQLAlchemy would write any column it gets."""
        return {name: value for name, value in values.items() if name in self.names}


@dataclass(frozen=True)
class _Compiled:
    """What SQLite is given, and how values go in and out."""

    text: str
    pick: Callable[[Values], tuple[object, ...]]
    """Takes the parameters in their order."""
    conversions: tuple[tuple[int, Convert], ...]
    """What becomes of them, by place."""
    constants: Values
    """Parameters that the statement itself brings."""
    columns: tuple[tuple[str, Convert | None], ...]
    """What a row's fields are called, and how they come out."""

    def bound(self, values: Values) -> list[object]:
        """Return the values in the order of their places."""
        if self.constants:
            values = {**self.constants, **values}
        found = list(self.pick(values))
        for place, convert in self.conversions:
            found[place] = convert(found[place])
        return found

    def rows_of(self, cursor: "driver.Cursor") -> Sequence[Row]:
        """Return what is left of a cursor."""
        return [
            SimpleNamespace(
                **{
                    name: value if convert is None else convert(value)
                    for value, (name, convert) in zip(found, self.columns, strict=True)
                }
            )
            for found in cursor.fetchall()
        ]


def _raw(conn: Connection) -> "driver.Connection":
    # The engine's creator makes nothing else.
    return cast("driver.Connection", conn.connection.driver_connection)


@contextmanager
def _as_integrity_error(compiled: _Compiled) -> Generator[None]:
    try:
        yield
    except driver.IntegrityError as cause:
        raise IntegrityError(
            compiled.text, None, cause, hide_parameters=True
        ) from cause


def _compiled(statement: Executable, dialect: Dialect) -> _Compiled:
    compiled = _sql_of(statement, dialect)
    names = compiled.positiontup or []
    binds = {compiled.bind_names[each]: each for each in compiled.binds.values()}
    into = [_into(binds[name].type, dialect) for name in names]
    conversions = tuple(
        (place, convert) for place, convert in enumerate(into) if convert is not None
    )
    constants = {name: each.value for name, each in binds.items() if not each.required}
    selected = list(statement.selected_columns) if isinstance(statement, Select) else []
    columns = tuple((each.name, _out_of(each.type, dialect)) for each in selected)
    return _Compiled(compiled.string, _picking(names), conversions, constants, columns)


def _sql_of(statement: Executable, dialect: Dialect) -> SQLCompiler:
    # Every Executable that can be run compiles, which its type does not say.
    compile_for = cast("ClauseElement", statement).compile
    return cast("SQLCompiler", compile_for(dialect=dialect))


def _picking(names: Sequence[str]) -> Callable[[Values], tuple[object, ...]]:
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: tuple(values[name] for name in names)


def _into(type_: TypeEngine[Any], dialect: Dialect) -> Convert | None:
    return type_.dialect_impl(dialect).bind_processor(dialect)


def _out_of(type_: TypeEngine[Any], dialect: Dialect) -> Convert | None:
    return type_.dialect_impl(dialect).result_processor(dialect, None)
