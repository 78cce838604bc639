"""Employees' documents and schemas: checked before anyone works by them."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from agent_world import CLERK
from hypothesis import given
from hypothesis import strategies as st

from agent_runtime.domain.employee import digest_of, errors_in
from agent_runtime.domain.schema import OutputInvalid, is_strict, parse_output
from contracts.employees import Employee

EXAMPLES = Path(__file__).parents[3] / "examples" / "employees"
NUMBER: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "number"}}}

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TWICE: list[dict[str, Any]] = [
    {"anyOf": [{"$ref": f"#/$defs/{each + 1}"}] * 2} for each in range(24)
]
FANNED: dict[str, Any] = {
    "$defs": {str(each): twice for each, twice in enumerate(TWICE)}
    | {"24": {"type": "integer", "minimum": 5}},
    "$ref": "#/$defs/0",
}
"""Sixteen million checks of one number, in 1 500 characters."""


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda p: p.name)
def test_examples_are_sound(path: Path) -> None:
    """What we hand out as an example can be applied, and vendors can enforce it."""
    employee = Employee.model_validate(yaml.safe_load(path.read_text()))
    assert errors_in(employee) == ()
    assert employee.name == path.stem
    assert is_strict(employee.output_schema)


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"tools": ("read_file", "shell")}, "/tools/1"),
        ({"tools": ("read_file", "read_file")}, "/tools/1"),
        ({"output_schema": {"type": "objekt"}}, "/output_schema/type"),
        (
            {"output_schema": {"properties": {"a/b": {"minimum": "1"}}}},
            "/output_schema/properties/a~1b/minimum",
        ),
        (
            {"output_schema": {"items": {"$ref": "http://example.org/schema"}}},
            "/output_schema/items/$ref",
        ),
        ({"output_schema": {"$ref": "#/$defs/missing"}}, "/output_schema"),
        ({"output_schema": {"$ref": "#"}}, "/output_schema"),
        ({"output_schema": {"pattern": "("}}, "/output_schema/pattern"),
        ({"output_schema": {"pattern": "a{99999999999}"}}, "/output_schema/pattern"),
        ({"output_schema": {"pattern": "^(a+)+$"}}, "/output_schema/pattern"),
        ({"output_schema": {"pattern": "^(a|a)*$"}}, "/output_schema/pattern"),
        ({"output_schema": {"pattern": ".*.*.*.*="}}, "/output_schema/pattern"),
        (
            {"output_schema": {"items": {"patternProperties": {"^(a+)+$": {}}}}},
            "/output_schema/items/patternProperties",
        ),
        ({"output_schema": {"$schema": DIALECT, **FANNED}}, "/output_schema"),
    ],
)
def test_errors_point_at_the_field(changes: dict[str, Any], pointer: str) -> None:
    """A builder learns which field is wrong."""
    errors = errors_in(CLERK.model_copy(update=changes))
    assert [each.pointer for each in errors] == [pointer]
    assert errors[0].detail


def test_deep_schema_is_refused() -> None:
    """Nothing recursive looks at a document before its depth is known."""
    schema: dict[str, Any] = {}
    for _ in range(500):
        schema = {"items": schema}
    (error,) = errors_in(CLERK.model_copy(update={"output_schema": schema}))
    assert "deeper" in error.detail


def test_digest_is_of_the_meaning() -> None:
    """Spelling a default out, or another order of fields, is no new version."""
    plain = Employee.model_validate({"name": "a", "role": "b", "instructions": "c"})
    spelled = Employee.model_validate(
        {"instructions": "c", "tools": [], "name": "a", "role": "b", "kind": "employee"}
    )
    assert digest_of(plain) == digest_of(spelled)
    assert digest_of(plain) != digest_of(plain.model_copy(update={"role": "d"}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no",
        '{"n": NaN}',
        '{"n": 1e999}',
        '{"n": "\\ud800"}',
        '{"n": "1"}',
        "[" * 9999,
    ],
)
def test_wrong_output_is_named(text: str) -> None:
    """Whatever a model writes, it is told why it does not do."""
    with pytest.raises(OutputInvalid):
        parse_output(text, NUMBER)


@pytest.mark.parametrize(
    "pattern",
    [
        r"^\d{4}-\d{2}-\d{2}$",
        r"^[A-Z]{2}\d+-\d+$",
        r"^[^@ ]+@[^@ ]+\.[a-z]{2,}$",
        r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?Z$",
        r"(?i)invoice",
    ],
)
def test_everyday_patterns_are_taken(pattern: str) -> None:
    """Dates, numbers and addresses can be asked for."""
    schema: dict[str, Any] = {"type": "string", "pattern": pattern}
    assert errors_in(CLERK.model_copy(update={"output_schema": schema})) == ()


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"pattern": "[a-z]+[a-z]+1"}, '"' + "a" * 250_000 + '"'),
        ({"uniqueItems": True}, json.dumps([{"n": n} for n in range(20_000)])),
        ({"items": FANNED}, "[0,0]"),
    ],
)
def test_checking_an_answer_ends_soon(schema: dict[str, Any], text: str) -> None:
    """No schema with any answer holds up the other employees; minutes before."""
    with pytest.raises(OutputInvalid):
        parse_output(text, schema)


@given(st.text(max_size=200))
def test_any_output_is_taken_or_refused(text: str) -> None:
    """No text is a bug."""
    try:
        parse_output(text, {})
    except OutputInvalid as invalid:
        assert str(invalid).encode()  # noqa: PT017 -- one of the two
