"""What a batch of usage costs in SQL: five statements, each for all of its records."""

from typing import Final

from sqlalchemy import Table, Text, bindparam
from sqlalchemy.dialects import postgresql, sqlite

from billing_meter.adapters.tables import MeterTable
from persistence.prepared import Prepared, parameters
from persistence.tables import DialectName, insert_into

TABLES: Final = MeterTable.metadata.tables
KEY: Final = TABLES["usage_key"]
LINE: Final = TABLES["ledger_line"]
ENTRY: Final = TABLES["ledger_entry"]
ROLLUP: Final = TABLES["task_rollup"]
CHARGE: Final = TABLES["charge"]

COUNTERS: Final = ("pico_usd", "attempts", "estimated_attempts")


def _added(table: Table, dialect: DialectName) -> sqlite.Insert | postgresql.Insert:
    return insert_into(table, dialect).values(
        parameters(each.name for each in table.columns)
    )


def _rolled_up(dialect: DialectName) -> sqlite.Insert | postgresql.Insert:
    statement = _added(ROLLUP, dialect)
    return statement.on_conflict_do_update(
        index_elements=["tenant", "task_id"],
        set_={name: ROLLUP.c[name] + statement.excluded[name] for name in COUNTERS},
    )


def _charged(dialect: DialectName) -> sqlite.Insert | postgresql.Insert:
    statement = _added(CHARGE, dialect)
    return statement.on_conflict_do_update(
        index_elements=["attempt_id"], set_={"pico_usd": statement.excluded.pico_usd}
    )


ADD_KEY: Final = Prepared(lambda dialect: _added(KEY, dialect))
ADD_LINE: Final = Prepared(
    # The line is JSON text already.
    lambda dialect: _added(LINE, dialect).values(line=bindparam("line", type_=Text))
)
ADD_ENTRY: Final = Prepared(lambda dialect: _added(ENTRY, dialect))
ROLL_UP: Final = Prepared(_rolled_up)
PUT_CHARGE: Final = Prepared(_charged)
