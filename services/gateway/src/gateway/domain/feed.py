"""
What a task's feed shows, and in which order; pure.

Only history events carry an SSE ``id:``, so ``Last-Event-ID`` resumes without
gap or repeat. Deltas are live only: one is shown when it continues what was
shown, or begins at 0 (a snapshot); anything else waits for the next snapshot.
"""

from dataclasses import dataclass, field

from contracts.problems import Problem
from contracts.tasks import LiveDelta, TaskEvent, TaskEventType

Place = tuple[str, int]
"""Step and turn."""


@dataclass(slots=True)
class Feed:
    """One reader's place in a task's history and live text."""

    last_seq: int
    _shown: dict[Place, tuple[int, int]] = field(
        default_factory=dict[Place, tuple[int, int]]
    )
    _over: set[Place] = field(default_factory=set[Place])

    def accept_event(self, event: TaskEvent) -> bytes | None:
        """Return the event's SSE bytes; None when it was shown before."""
        if event.seq <= self.last_seq:
            return None
        self.last_seq = event.seq
        if event.type is TaskEventType.TURN_FINISHED:
            self._close(event)
        return encode(event.type, event.model_dump_json(exclude_none=True), event.seq)

    def accept_delta(self, delta: LiveDelta) -> bytes | None:
        """Return the delta's SSE bytes; None when it must not be shown."""
        place = (delta.step_id, delta.turn)
        if place in self._over:
            return None
        fence, end = self._shown.get(place, (delta.fence, -1))
        if delta.fence < fence:
            return None
        if delta.offset not in {0, end} or (delta.fence > fence and delta.offset != 0):
            return None
        self._shown[place] = (delta.fence, delta.offset + len(delta.text))
        return encode("delta", delta.model_dump_json(exclude_none=True), None)

    def _close(self, event: TaskEvent) -> None:
        step_id, turn = event.data.get("step_id"), event.data.get("turn")
        number = turn.get("turn") if isinstance(turn, dict) else turn
        if isinstance(step_id, str) and isinstance(number, int):
            self._over.add((step_id, number))
            self._shown.pop((step_id, number), None)


def encode(event: str, data: str, seq: int | None) -> bytes:
    """Return one server-sent event; ``data`` must be JSON without line breaks."""
    lines = [] if seq is None else [f"id: {seq}"]
    return "\n".join([*lines, f"event: {event}", f"data: {data}", "", ""]).encode()


def encode_problem(problem: Problem) -> bytes:
    """Return the event that says why a feed ended before its task."""
    return encode("error", problem.model_dump_json(exclude_none=True), None)


KEEP_ALIVE = b": keep-alive\n\n"
END = b"event: end\ndata: {}\n\n"
