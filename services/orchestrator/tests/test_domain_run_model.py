"""
Any interleaving, repetition or loss of messages, against a model of the world.

The machine plays agent-runtime and the network: it works on steps under rising
fences, keeps every message that was ever sent, and delivers any of them at any time,
as often as it likes or never.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from contracts.completions import FinishReason
from contracts.message import Json
from contracts.steps import CancelStep, StepFinished, StepOutcome, StepRequested
from contracts.tasks import SubmitTask, TaskEvent, TaskEventType, TaskStatus
from contracts.turns import TurnFinished, TurnRecord
from contracts.usage import TokenUsage
from orchestrator.domain import run as runs
from orchestrator.domain.decision import Decision, Refusal
from orchestrator.domain.definition import Definition, plain
from orchestrator.domain.state import Run
from orchestrator.domain.view import view

EPOCH: Final = datetime(2026, 3, 1, tzinfo=UTC)
STEPS: Final = 3
QUIET: Final = 2
"""Messages before the first cancel or deadline: else most runs end at once."""
ENTRIES: Final[list[Json]] = [
    {f"s{place}": {"call": "employee", "with": {"employee": "clerk", "goal": "Go."}}}
    for place in range(STEPS)
]
BRIEF: Final = SubmitTask(
    task_id="task_1",
    tenant="acme",
    definition={**plain("clerk", "x"), "do": ENTRIES},
    submitted_at=EPOCH,
)


class Worker:
    """One step as agent-runtime has it: its turns and the lease's fence."""

    def __init__(self, request: StepRequested) -> None:
        self.request = request
        self.fence = 0
        """0 until somebody claims the step."""
        self.turns: list[TurnRecord] = []
        self.finish: StepFinished | None = None


def told(run: Run) -> Run:
    """Return the run without what a late word may still change: its sums."""
    return replace(run, unheard=(), attempts=0, usage=TokenUsage())


class RunMachine(RuleBasedStateMachine):
    """The reducer, and a network that does what it wants."""

    def __init__(self) -> None:
        super().__init__()
        definition = runs.definition_of(BRIEF)
        assert isinstance(definition, Definition)
        self.plan = runs.Plan(definition, BRIEF)
        self.now = EPOCH
        self.history: list[TaskEvent] = []
        self.workers: dict[str, Worker] = {}
        self.sent: list[TurnFinished | StepFinished] = []
        self.owed: set[str] = set()
        self.was_cancelled = False
        self.end: Run | None = None
        opened = runs.start(BRIEF, self.now, runs.Origin(3600))
        self.run = opened.run
        self.apply(opened)

    def apply(self, decision: Decision) -> None:
        """Commit a decision: keep its history, let its messages arrive."""
        if self.end is not None:
            assert decision == Decision(decision.run), "an end is final"
            assert told(decision.run) == told(self.end), "an end is final"
            self.run = decision.run
            return
        self.run = decision.run
        self.history.extend(decision.events)
        if self.was_cancelled:
            types = {event.type for event in decision.events}
            assert TaskEventType.STEP_STARTED not in types, "nothing begins any more"
        for owed in decision.owed:
            assert owed.message_id not in self.owed, "owed once"
            self.owed.add(owed.message_id)
            if isinstance(owed.message, StepRequested):
                self.workers[owed.message.step_id] = Worker(owed.message)
            else:
                assert isinstance(owed.message, CancelStep)
        if self.run.status.is_end:
            self.end = self.run

    def at_work(self) -> list[Worker]:
        """Return the workers that have not finished."""
        return [each for each in self.workers.values() if each.finish is None]

    @rule()
    def time_passes(self) -> None:
        """Let a second go by."""
        self.now += timedelta(seconds=1)

    @precondition(lambda self: self.at_work())
    @rule(data=st.data())
    def a_worker_claims_the_step(self, data: st.DataObject) -> None:
        """Raise a step's fence: its holder died, or it begins."""
        data.draw(st.sampled_from(self.at_work())).fence += 1

    @precondition(lambda self: self.at_work())
    @rule(data=st.data(), count=st.integers(1, 3))
    def turns_are_done(self, data: st.DataObject, count: int) -> None:
        """Append turns to a transcript and send their bells."""
        worker = data.draw(st.sampled_from(self.at_work()))
        worker.fence = max(worker.fence, 1)
        for _ in range(count):
            self.add_turn(worker)

    def add_turn(self, worker: Worker) -> None:
        """Append one turn and send its bell."""
        turn = TurnRecord(
            turn=len(worker.turns) + 1,
            model="m",
            vendor="v",
            finish_reason=FinishReason.STOP,
            started_at=self.now,
            finished_at=self.now,
        )
        worker.turns.append(turn)
        self.sent.append(
            TurnFinished(
                tenant="acme",
                task_id="task_1",
                step_id=worker.request.step_id,
                fence=worker.fence,
                turn=turn,
            )
        )

    @precondition(lambda self: self.at_work())
    @rule(data=st.data(), outcome=st.sampled_from(StepOutcome))
    def a_step_ends(self, data: st.DataObject, outcome: StepOutcome) -> None:
        """Send a step's finish under the current fence."""
        worker = data.draw(st.sampled_from(self.at_work()))
        worker.finish = StepFinished(
            tenant="acme",
            task_id="task_1",
            step_id=worker.request.step_id,
            fence=worker.fence,
            outcome=outcome,
            output=worker.request.step_id,
            turns=tuple(worker.turns),
            finished_at=self.now,
        )
        self.sent.append(worker.finish)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def a_message_arrives(self, data: st.DataObject) -> None:
        """Deliver anything that was ever sent, perhaps again."""
        self.deliver(data.draw(st.sampled_from(self.sent)))

    @precondition(lambda self: self.sent)
    @rule()
    def the_newest_message_arrives(self) -> None:
        """Deliver what was sent last, as a calm network would."""
        self.deliver(self.sent[-1])

    def deliver(self, message: TurnFinished | StepFinished) -> None:
        """Let the reducer have a message."""
        match message:
            case TurnFinished():
                self.apply(runs.turn_finished(self.run, message, self.now))
            case StepFinished():
                self.apply(runs.step_finished(self.run, self.plan, message, self.now))

    @precondition(lambda self: len(self.sent) > QUIET)
    @rule()
    def a_user_cancels(self) -> None:
        """Ask for the end."""
        decision = runs.cancel(self.run, "stop", self.now)
        if isinstance(decision, Refusal):
            assert self.end is not None
            return
        self.was_cancelled = True
        self.apply(decision)

    @precondition(lambda self: len(self.sent) > QUIET)
    @rule(data=st.data())
    def a_deadline_rings(self, data: st.DataObject) -> None:
        """Let a step's time be up, whether or not it has ended."""
        step_id = data.draw(st.sampled_from(sorted(self.workers)))
        self.apply(runs.deadline_passed(self.run, step_id, self.now))

    @invariant()
    def the_history_has_no_gaps(self) -> None:
        """Sequences are 1, 2, 3, … and the snapshot knows the last."""
        numbers = [event.seq for event in self.history]
        assert numbers == list(range(1, self.run.seq + 1))

    @invariant()
    def every_step_starts_and_ends_once(self) -> None:
        """One start and at most one finish per step, in this order."""
        for step_id in self.workers:
            types = [
                event.type
                for event in self.history
                if event.data.get("step_id") == step_id
                and event.type is not TaskEventType.TURN_FINISHED
            ]
            whole = [TaskEventType.STEP_STARTED, TaskEventType.STEP_FINISHED]
            assert types in (whole[:1], whole)

    @invariant()
    def turns_rise(self) -> None:
        """Within a step no turn comes twice or after a later one."""
        shown = view(self.run, BRIEF, self.history)
        for step in shown.steps:
            numbers = [turn.turn for turn in step.turns]
            assert numbers == sorted(set(numbers))
            worker = self.workers[step.step_id]
            if step.finished_at is None:
                assert numbers == list(range(1, len(numbers) + 1))
            elif worker.finish is not None and step.status == worker.finish.outcome:
                by_deadline = step.problem is not None and "within" in (
                    step.problem.detail
                )
                assert by_deadline or len(numbers) == len(worker.turns)

    @invariant()
    def cancel_wins(self) -> None:
        """A task that was cancelled before its end ends cancelled, if it ends."""
        if self.was_cancelled:
            expected = {TaskStatus.CANCELLING, TaskStatus.CANCELLED}
            assert self.run.status in expected

    @invariant()
    def it_ends_exactly_when_nothing_is_active(self) -> None:
        """No task hangs without a step, and no end leaves one."""
        assert self.run.status.is_end == (not self.run.active)
        assert (self.run.finished_at is not None) == self.run.status.is_end


RunMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None
)
TestRunMachine = RunMachine.TestCase
