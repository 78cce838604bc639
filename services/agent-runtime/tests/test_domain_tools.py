"""Tools: every call gets a result, also a nonsensical one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_runtime.domain.tools import READ_CHARS_MAX, is_pure, perform
from contracts.completions import TextPart, ToolCallPart
from contracts.tasks import TaskFile

BOTH = ("read_file", "calculator")
FILES = (TaskFile(name="a.txt", content="alpha"), TaskFile(name="b.txt", content=""))


def run(name: str, arguments: str, allowed: tuple[str, ...] = BOTH) -> tuple[str, bool]:
    """Perform one call; return its text and whether it is an error."""
    asked = ToolCallPart(call_id="c", name=name, arguments=arguments)
    (result,) = perform([asked], allowed, FILES)
    (part,) = result.content
    assert isinstance(part, TextPart)
    assert result.call_id == "c"
    part.encode()
    return part.text, result.is_error


def test_tools_answer() -> None:
    """Files are read by name, sums are worked out."""
    assert run("read_file", '{"path": "a.txt"}') == ("alpha", False)
    assert run("read_file", '{"path": "b.txt"}') == ("", False)
    assert run("calculator", '{"expression": "2 * 3.5"}') == ("7", False)


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("read_file", '{"path": "../etc/passwd"}', "the task's files: a.txt, b.txt"),
        ("read_file", '{"path": "\\ud800"}', "no valid JSON"),
        ("read_file", '{"path": "a.txt", "offset": 99}', "behind the end"),
        ("read_file", '{"path": 7}', "/path"),
        ("read_file", '{"file": "a.txt"}', "invalid arguments"),
        ("read_file", "{", "no valid JSON"),
        ("read_file", "[]", "invalid arguments"),
        ("read_file", "", "invalid arguments"),
        ("calculator", '{"expression": "1,000 + 1"}', "thousands"),
        ("shell", "{}", "yours are: read_file, calculator"),
        ("calculator", '{"expression": ' + "[" * 900 + "]" * 900 + "}", "Error"),
    ],
)
def test_nonsense_is_told_to_the_model(name: str, arguments: str, reason: str) -> None:
    """Errors say what is wrong and what there is."""
    text, is_error = run(name, arguments)
    assert is_error
    assert text.startswith("Error: ")
    assert reason in text


def test_employee_has_only_its_tools() -> None:
    """A tool that exists, but is not the employee's, does not exist for it."""
    text, is_error = run("calculator", '{"expression": "1"}', ("read_file",))
    assert is_error
    assert "yours are: read_file" in text


def test_long_files_come_in_pieces() -> None:
    """The model is told where to go on, and the pieces are the whole."""
    whole = "".join(f"line {number}\n" for number in range(12_000))
    files = (TaskFile(name="long.txt", content=whole),)
    read, offset = "", 0
    for _ in range(10):
        arguments = f'{{"path": "long.txt", "offset": {offset}}}'
        asked = ToolCallPart(call_id="c", name="read_file", arguments=arguments)
        (part,) = perform([asked], BOTH, files)[0].content
        assert isinstance(part, TextPart)
        piece = part.text[:READ_CHARS_MAX]
        read, offset = read + piece, offset + len(piece)
        if f"go on with offset {offset}" not in part.text:
            break
    assert read == whole


@given(st.lists(st.tuples(st.text(max_size=9), st.text(max_size=40)), max_size=70))
def test_each_call_has_a_result(asked: list[tuple[str, str]]) -> None:
    """Vendors refuse a conversation in which a call stays open."""
    calls = [
        ToolCallPart(call_id=f"c{number}", name=name, arguments=arguments)
        for number, (name, arguments) in enumerate(asked)
    ]
    results = perform(calls, BOTH, FILES)
    assert [each.call_id for each in results] == [each.call_id for each in calls]
    assert all(is_pure(each) for each in calls)
