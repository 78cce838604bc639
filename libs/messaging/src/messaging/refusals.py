"""An expected refusal on its way back to the asker; pages nobody."""

from contracts.problems import Code, ErrorEnvelope, problem


class Refused(Exception):
    """
    The other side said no, and why.

    Raised by ``Bus.request`` for an error reply, and by an ``Answer`` handler
    to refuse. It is neither a fault nor a bug: do not retry unless
    ``envelope.retryable``.
    """

    def __init__(self, envelope: ErrorEnvelope) -> None:
        super().__init__(envelope.problem.detail)
        self.envelope = envelope


def refuse(code: Code, detail: str, *, retryable: bool = False) -> Refused:
    """Build the refusal of a code; raise it."""
    return Refused(ErrorEnvelope(problem=problem(code, detail), retryable=retryable))
