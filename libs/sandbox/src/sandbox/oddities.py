"""Answers that are none, and usage that is told otherwise than it was."""

from dataclasses import replace
from typing import assert_never

from sandbox.conversation import Answer, Finish
from sandbox.faults import Oddity
from sandbox.wire import Telling, Usage


def other_answer(answer: Answer, oddity: Oddity) -> Answer:
    """Return the answer that a fault puts in the place of the brain's."""
    match oddity:
        case Oddity.EMPTY:
            return Answer("")
        case Oddity.REFUSED:
            return Answer("", finish=Finish.REFUSED)
        case Oddity.ENDLESS:
            # Only text can go on for ever: a call's arguments would have to close.
            return Answer(answer.text or "[sandbox] endless", finish=Finish.LENGTH)
        case _:
            assert_never(oddity)


def tell(usage: Usage, telling: Telling, percent: int) -> Usage | None:
    """Return the usage to report, None for none."""
    match telling:
        case Telling.MISSING:
            return None
        case Telling.ZERO:
            return Usage(0, 0)
        case Telling.WRONG:
            return replace(
                usage,
                input_tokens=usage.input_tokens * percent // 100,
                output_tokens=usage.output_tokens * percent // 100,
                cache_read_tokens=usage.cache_read_tokens * percent // 100,
                cache_write_tokens=usage.cache_write_tokens * percent // 100,
                cache_write_1h_tokens=usage.cache_write_1h_tokens * percent // 100,
                reasoning_tokens=usage.reasoning_tokens * percent // 100,
            )
        case Telling.TRUE | Telling.TWICE | Telling.LOOKALIKE | Telling.NULL_CHOICES:
            return usage
        case _:
            assert_never(telling)
