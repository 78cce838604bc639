"""An answer told in pieces, in a vendor's words."""

from typing import Protocol

from contracts.completions import Completion
from contracts.problems import Problem
from gateway.domain.told import Delta


class AnswerStream(Protocol):
    """One answer on its way; every method returns bytes to send at once."""

    def ping(self) -> bytes:
        """Return what says that the work goes on."""
        ...

    def delta(self, delta: Delta) -> bytes:
        """Return the next piece; nothing when it has to wait for the end."""
        ...

    def finish(self, completion: Completion) -> bytes:
        """
        Return what is left, the end and the counts.

        Raises:
            Contradicted: Other pieces were told than the answer has.
        """
        ...

    def failure(self, problem: Problem) -> bytes:
        """Return an error after the stream has begun; it has no proper end then."""
        ...
