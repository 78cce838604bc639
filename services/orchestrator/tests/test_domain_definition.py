import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.message import Json, JsonObject
from contracts.problems import Code, Problem
from orchestrator.domain.definition import Definition, parse, plain
from orchestrator.domain.document import digest

HEAD: JsonObject = {
    "dsl": "1.0.0",
    "namespace": "default",
    "name": "close-books",
    "version": "1.2.3",
}


def call(**arguments: Json) -> JsonObject:
    """Build a task that calls an employee."""
    given: JsonObject = {"employee": "clerk", "goal": "File it.", **arguments}
    return {"call": "employee", "with": given}


def workflow(*tasks: Json) -> JsonObject:
    """Build a workflow of these entries."""
    return {"document": HEAD, "do": list(tasks)}


def checked(document: JsonObject) -> Definition:
    """Return the definition, which must be one."""
    definition = parse(document)
    assert isinstance(definition, Definition), definition
    return definition


def test_a_plain_task_is_a_workflow_of_one_call() -> None:
    """The gateway and a trigger build the same document for the same task."""
    document = plain("clerk", "File it.")
    assert document == {
        "document": {
            "dsl": "1.0.0",
            "namespace": "default",
            "name": "clerk",
            "version": "1.0.0",
        },
        "do": [
            {
                "work": {
                    "call": "employee",
                    "with": {"employee": "clerk", "goal": "File it."},
                }
            }
        ],
    }
    (task,) = checked(document).tasks
    assert (task.pointer, task.employee, task.goal) == (
        "/do/0/work",
        "clerk",
        "File it.",
    )


def test_a_sequence_is_walked_in_order() -> None:
    """Each task is followed by the next; the last by nothing."""
    definition = checked(workflow({"a": call()}, {"b/c~": call(input=None)}))
    first, second = definition.tasks
    assert definition.after(first.pointer) == second
    assert definition.after(second.pointer) is None
    assert second.pointer == "/do/1/b~1c~0"
    assert (first.has_input, second.has_input) == (False, True)


def test_the_digest_names_content_not_key_order() -> None:
    """Documents that say the same are the same version."""
    turned = dict(reversed(workflow({"a": call()}).items()))
    assert checked(turned).digest == digest(workflow({"a": call()}))
    assert digest(workflow({"a": call(goal="Other.")})) != digest(turned)


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({}, "/document"),
        ({"document": HEAD}, "/do"),
        ({"document": HEAD, "do": []}, "/do"),
        ({"document": HEAD, "do": [], "schedule": {}}, "/schedule"),
        ({"document": {**HEAD, "dsl": "2.0.0"}, "do": []}, "/document/dsl"),
        ({"document": {**HEAD, "name": "No Name"}, "do": []}, "/do"),
        (workflow("work"), "/do/0"),
        (workflow({"a": call(), "b": call()}), "/do/0"),
        (workflow({"a": {"set": {"x": 1}}}), "/do/0/a"),
        (workflow({"a": call()}, {"b": {"fork": {}}}), "/do/1/b"),
        (workflow({"a": {"call": "http", "with": {}}}), "/do/0/a/call"),
        (workflow({"a": {**call(), "if": "${ .x }"}}), "/do/0/a/if"),
        (workflow({"a": call(employee="No One")}), "/do/0/a/with/employee"),
        (workflow({"a": call(goal="")}), "/do/0/a/with/goal"),
        (workflow({"a": call(goal="${ .goal }")}), "/do/0/a/with/goal"),
        (workflow({"a": call(input={"x": ["${ . }"]})}), "/do/0/a/with/input/x/0"),
        (workflow({"a": call(budget=1)}), "/do/0/a/with/budget"),
    ],
)
def test_what_cannot_be_run_is_named_by_its_pointer(
    document: JsonObject, pointer: str
) -> None:
    """A builder learns where the workflow is wrong."""
    found = parse(document)
    assert isinstance(found, Problem)
    assert (found.code, found.instance) == (Code.INVALID, pointer)
    assert pointer in found.detail


def test_the_goal_of_a_plain_task_is_words() -> None:
    """What a user types is never evaluated, whatever it looks like."""
    document = plain("clerk", "${HOME}")
    assert isinstance(parse(document), Problem)
    definition = parse(document, is_literal=True)
    assert isinstance(definition, Definition)
    assert definition.tasks[0].goal == "${HOME}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["document", "do", "call", "with", "a", "dsl", "goal"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["document", "do", "x"]), JSON))
def test_no_document_breaks_the_parser(document: JsonObject) -> None:
    """Whatever is handed in, the answer is a definition or a problem."""
    assert isinstance(parse({"document": HEAD, **document}), Definition | Problem)
