"""
Equal questions by their digest, on SQL.

A row only points at the completion that was answered, so an answer is kept once and
forgotten with its completion, in the same bounded batches.
"""

from datetime import datetime

from sqlalchemy import Connection, and_, select

from ai_broker.adapters.tables import CACHED_ANSWER, COMPLETION, held_of
from ai_broker.domain import cache
from ai_broker.domain.cache import Kept
from ai_broker.domain.catalogue import Candidate
from contracts.completions import Completion, CompletionRequest
from persistence.database import Database
from persistence.tables import dialect_of, insert_into


class SqlAnswerCache:
    """
    Finds the answer of an exactly equal question.

    Args:
        database: The broker's store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, request: CompletionRequest, since: datetime) -> Kept | None:
        """Return the tenant's answer to an equal question, not older than then."""
        question = cache.question_of(request)
        same = and_(
            COMPLETION.c.tenant == CACHED_ANSWER.c.tenant,
            COMPLETION.c.completion_id == CACHED_ANSWER.c.completion_id,
        )
        query = (
            select(COMPLETION, CACHED_ANSWER.c.vendor, CACHED_ANSWER.c.model)
            .join(CACHED_ANSWER, same)
            .where(
                CACHED_ANSWER.c.tenant == request.tenant,
                CACHED_ANSWER.c.question == question,
                CACHED_ANSWER.c.answered_at >= since,
            )
        )

        def look(conn: Connection) -> Kept | None:
            row = conn.execute(query).first()
            answer = None if row is None else held_of(row).answer
            if row is None or answer is None:
                return None
            return Kept(answer, (row.vendor, row.model))

        return await self._database.read(look)


def keep_answer(
    conn: Connection,
    request: CompletionRequest,
    answer: Completion,
    candidate: Candidate,
) -> None:
    """Point the question at this answer, in the transaction that stores it."""
    values = {
        "tenant": request.tenant,
        "question": cache.question_of(request),
        "completion_id": answer.completion_id,
        "vendor": candidate.vendor,
        "model": candidate.model,
        "answered_at": answer.created_at,
    }
    statement = insert_into(CACHED_ANSWER, dialect_of(conn)).values(values)
    key = (CACHED_ANSWER.c.tenant, CACHED_ANSWER.c.question)
    conn.execute(statement.on_conflict_do_update(index_elements=key, set_=values))
