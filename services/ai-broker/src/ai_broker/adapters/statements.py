"""
What a completion costs in SQL: two inserts before its call, two updates after it.

A parameter with the name of a column is that column's new value; those that find the
row begin with ``at_``.
"""

from typing import Any, Final

from sqlalchemy import Select, Update, bindparam, select, update

from ai_broker.adapters.tables import ATTEMPT, COMPLETION, OPEN
from ai_broker.domain.completion import State
from persistence.prepared import Prepared, parameters, whole_row


def _completion() -> Select[Any]:
    return select(COMPLETION).where(
        COMPLETION.c.tenant == bindparam("at_tenant"),
        COMPLETION.c.completion_id == bindparam("at_completion"),
    )


def _changed_completion(*columns: str) -> Update:
    return (
        update(COMPLETION)
        .where(
            COMPLETION.c.tenant == bindparam("at_tenant"),
            COMPLETION.c.completion_id == bindparam("at_completion"),
        )
        .values(parameters(columns))
    )


def _held_completion(*columns: str) -> Update:
    return _changed_completion(*columns).where(
        COMPLETION.c.fence == bindparam("at_fence"),
        COMPLETION.c.state == State.RUNNING.value,
    )


def _attempts() -> Select[Any]:
    same = (
        ATTEMPT.c.tenant == bindparam("at_tenant"),
        ATTEMPT.c.completion_id == bindparam("at_completion"),
    )
    return select(ATTEMPT).where(*same).order_by(ATTEMPT.c.number)


def _changed_attempt() -> Update:
    at = ATTEMPT.c.attempt_id == bindparam("at_attempt")
    return update(ATTEMPT).where(at).values(parameters(ATTEMPT_CHANGES))


COMPLETION_CHANGES: Final = ("state", "owner", "fence", "until", "answer", "failure")
ENDED: Final = ("state", "until", "answer", "failure")
ATTEMPT_CHANGES: Final = (
    "model",
    "state",
    "revision",
    "deadline",
    "occurred_at",
    "record",
    "is_told",
    "trace",
)

READ_COMPLETION: Final = Prepared(lambda _: _completion())
LOCK_COMPLETION: Final = Prepared(lambda _: _completion().with_for_update())
ADD_COMPLETION: Final = Prepared(
    lambda dialect: whole_row(COMPLETION, dialect).on_conflict_do_nothing()
)
SAVE_COMPLETION: Final = Prepared(lambda _: _changed_completion(*COMPLETION_CHANGES))
END_COMPLETION: Final = Prepared(lambda _: _held_completion(*ENDED))
RENEW_CLAIM: Final = Prepared(lambda _: _held_completion("until"))
READ_ATTEMPTS: Final = Prepared(lambda _: _attempts())
ADD_ATTEMPT: Final = Prepared(lambda dialect: whole_row(ATTEMPT, dialect))
SAVE_ATTEMPT: Final = Prepared(lambda _: _changed_attempt())
SETTLE_ATTEMPT: Final = Prepared(
    lambda _: _changed_attempt().where(ATTEMPT.c.state == OPEN)
)
