"""The loop is pure, ends, and stays within its limits, whatever the model says."""

from datetime import UTC, datetime, timedelta

import pytest
from agent_world import CLERK, LETTER, answer, call, without_schema
from hypothesis import given
from hypothesis import strategies as st

from agent_runtime.domain import tools
from agent_runtime.domain.agent_loop import (
    CallModel,
    CallTools,
    Fail,
    Finish,
    Limits,
    limits_of,
    next_action,
)
from agent_runtime.domain.prompt import completion_request
from agent_runtime.domain.step import Step, completed, step_finished
from agent_runtime.domain.transcript import Transcript, Turn
from contracts.completions import (
    CompletionRequest,
    FinishReason,
    RefusalPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from contracts.employees import Employee
from contracts.problems import Code
from contracts.steps import StepRequested

NOW = datetime(2026, 3, 1, tzinfo=UTC)
BRIEF = StepRequested(
    tenant="acme",
    task_id="task_one",
    step_id="step_one",
    employee="clerk",
    goal="Check letter.txt",
    files=(LETTER,),
    deadline=NOW + timedelta(hours=1),
)
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(['{"total": 1}', "{}", "[", '{"total": NaN}', '{"total": 1e999}']),
)
PARTS = st.one_of(
    TEXTS.map(lambda text: TextPart(text=text)),
    st.builds(
        ToolCallPart,
        call_id=st.sampled_from(["a", "b"]),
        name=st.sampled_from(["calculator", "read_file", "nonsense"]),
        arguments=st.sampled_from(['{"expression": "1+1"}', "{", '{"path": "x"}']),
    ),
    st.just(RefusalPart(text="no")),
)
ANSWERS = st.tuples(st.lists(PARTS, max_size=3), st.sampled_from(FinishReason))
EMPLOYEES = st.sampled_from([CLERK, without_schema(turns_max=3, tokens_max=40)])


def asked(turn: int) -> CompletionRequest:
    """Return some question for a turn."""
    return completion_request(BRIEF, CLERK, (), CallModel(turn, 100), BRIEF.deadline)


def turn_of(
    *parts: TextPart | ToolCallPart | RefusalPart | str,
    number: int = 1,
    finish: FinishReason | None = None,
) -> Turn:
    """Make a turn that was just answered."""
    return Turn(number, answer(asked(number), *parts, finish=finish), NOW, NOW)


@given(EMPLOYEES, st.lists(ANSWERS, min_size=20, max_size=20))
def test_loop_ends_within_its_limits(
    employee: Employee,
    answers: list[tuple[list[TextPart | ToolCallPart | RefusalPart], FinishReason]],
) -> None:
    """No model makes it go on for ever, or leaves a call without result."""
    limits = limits_of(employee, BRIEF, NOW)
    said: list[Turn] = []
    for _ in range(2 * limits.turns_max + 2):
        transcript: Transcript = tuple(said)
        action = next_action(transcript, employee, limits, NOW)
        assert action == next_action(transcript, employee, limits, NOW)
        if isinstance(action, CallModel):
            assert action.turn == len(transcript) + 1 <= limits.turns_max
            assert 1 <= action.output_tokens_max <= employee.model.output_tokens_max
            request = completion_request(
                BRIEF, employee, transcript, action, limits.deadline
            )
            request.encode()
            require_answered_calls(request)
            parts, finish = answers[action.turn - 1]
            made = answer(request, *parts, finish=finish)
            said.append(Turn(action.turn, made, NOW, NOW))
        elif isinstance(action, CallTools):
            results = tools.perform(action.calls, employee.tools, BRIEF.files)
            said[-1] = said[-1].performed(results, NOW)
        else:
            assert isinstance(action, Finish | Fail)
            return
    pytest.fail("the loop goes on beyond its limits")


def require_answered_calls(request: CompletionRequest) -> None:
    """Check that each tool call is followed at once by its result."""
    for line, after in zip(request.turns, (*request.turns[1:], None), strict=True):
        calls = [each.call_id for each in line.parts if isinstance(each, ToolCallPart)]
        if calls:
            assert after is not None
            assert after.role is Role.TOOL
            results = [each for each in after.parts if isinstance(each, ToolResultPart)]
            assert [each.call_id for each in results] == calls


@pytest.mark.parametrize(
    ("turn", "code"),
    [
        (turn_of("I", finish=FinishReason.LENGTH), Code.TOKEN_LIMIT),
        (turn_of("no", finish=FinishReason.REFUSAL), Code.VENDOR_REFUSED),
        (turn_of("", finish=FinishReason.CONTENT_FILTER), Code.VENDOR_REFUSED),
        (turn_of(RefusalPart(text="no")), Code.VENDOR_REFUSED),
    ],
)
def test_answers_that_end_a_step(turn: Turn, code: Code) -> None:
    """Cut and refused answers fail with a code that says which."""
    action = next_action((turn,), CLERK, limits_of(CLERK, BRIEF, NOW), NOW)
    assert isinstance(action, Fail)
    assert action.problem.code is code


def test_paused_model_goes_on() -> None:
    """A vendor that pauses a long turn is asked to go on."""
    turn = turn_of("let me", finish=FinishReason.PAUSE)
    action = next_action((turn,), CLERK, limits_of(CLERK, BRIEF, NOW), NOW)
    assert isinstance(action, CallModel)


def test_paid_answer_counts_after_the_deadline() -> None:
    """Limits stop the next question, not the answer that is there."""
    limits = Limits(turns_max=1, tokens_max=1, deadline=NOW)
    late = NOW + timedelta(days=1)
    done = next_action((turn_of('{"total": 7}'),), CLERK, limits, late)
    assert done == Finish({"total": 7})
    assert isinstance(next_action((), CLERK, limits, late), Fail)


def test_correction_stays_in_the_conversation() -> None:
    """The model sees its wrong answer and what was wrong with it."""
    wrong = turn_of('{"total": "seven"}')
    request = completion_request(BRIEF, CLERK, (wrong,), CallModel(2, 9), NOW)
    roles = [line.role for line in request.turns]
    assert roles == [Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.USER]
    assert request.completion_id == "step_one:2"
    assert request.output_schema is not None
    assert request.output_schema.strict


def test_end_of_a_long_step_fits_into_a_message() -> None:
    """History keeps every turn; texts give way."""
    turns = tuple(
        turn_of("x" * 50_000, call("calculator", "y" * 50_000), number=number)
        for number in range(1, 201)
    )
    step = Step("acme", "task_one", "step_one", "bell", BRIEF, 1, NOW)
    owed = step_finished(step, completed(None), NOW, fence=1, transcript=turns)
    assert len(owed.message.encode()) < 512 * 1024
