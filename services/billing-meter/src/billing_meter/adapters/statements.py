"""What a batch of usage costs in SQL: five statements, each for all of its records."""

from typing import Final

from sqlalchemy import Text, bindparam
from sqlalchemy.dialects import postgresql, sqlite

from billing_meter.adapters.tables import MeterTable
from persistence.prepared import Prepared, whole_row
from persistence.tables import DialectName

TABLES: Final = MeterTable.metadata.tables
KEY: Final = TABLES["usage_key"]
LINE: Final = TABLES["ledger_line"]
ENTRY: Final = TABLES["ledger_entry"]
ROLLUP: Final = TABLES["task_rollup"]
CHARGE: Final = TABLES["charge"]

COUNTERS: Final = ("pico_usd", "attempts", "estimated_attempts")


def _rolled_up(dialect: DialectName) -> sqlite.Insert | postgresql.Insert:
    statement = whole_row(ROLLUP, dialect)
    return statement.on_conflict_do_update(
        index_elements=["tenant", "task_id"],
        set_={name: ROLLUP.c[name] + statement.excluded[name] for name in COUNTERS},
    )


def _charged(dialect: DialectName) -> sqlite.Insert | postgresql.Insert:
    statement = whole_row(CHARGE, dialect)
    return statement.on_conflict_do_update(
        index_elements=["attempt_id"], set_={"pico_usd": statement.excluded.pico_usd}
    )


ADD_KEY: Final = Prepared(lambda dialect: whole_row(KEY, dialect))
ADD_LINE: Final = Prepared(
    # The line is JSON text already.
    lambda dialect: whole_row(LINE, dialect).values(line=bindparam("line", type_=Text))
)
ADD_ENTRY: Final = Prepared(lambda dialect: whole_row(ENTRY, dialect))
ROLL_UP: Final = Prepared(_rolled_up)
PUT_CHARGE: Final = Prepared(_charged)
