# ruff: noqa: RUF001 -- characters that look alike are what is tested
"""Signals of form: sure where they speak, silent where they are not."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_broker.domain import quality
from contracts.completions import (
    CompletionRequest,
    FinishReason,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
)
from contracts.quality import QualitySignals

PROSE = (
    "The quarterly report shows that revenue rose in every region, while costs stayed "
    "flat; the board may want to look at shipping, where a new contract begins soon. "
)
CHINESE = "季度报告显示各地区收入均有增长，成本保持平稳；董事会可关注新的运输合同。"
TOTAL: dict[str, Any] = {
    "type": "object",
    "properties": {"total": {"type": "number"}},
    "required": ["total"],
}


def asked(question: str = PROSE, **changes: object) -> CompletionRequest:
    """Ask a question."""
    parts = [{"kind": "text", "text": question}]
    fields: dict[str, Any] = {
        "completion_id": "c",
        "tenant": "acme",
        "model": "m",
        "turns": [{"role": "user", "parts": parts}],
        "deadline": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return CompletionRequest.model_validate(fields | changes)


def judged(
    *parts: Part | str,
    request: CompletionRequest | None = None,
    finish: FinishReason = FinishReason.STOP,
) -> QualitySignals:
    """Judge an answer made of these parts."""
    given_ = [TextPart(text=each) if isinstance(each, str) else each for each in parts]
    found = quality.signals(request or asked(), given_, finish)
    assert found is not None
    return found


def test_a_good_answer_raises_nothing() -> None:
    """Form alone, and nothing to complain about."""
    found = judged(PROSE * 2)
    assert quality.flagged(found) == ()
    assert found == QualitySignals(language_mismatch=False)


@pytest.mark.parametrize(
    ("parts", "finish", "flag"),
    [
        ((PROSE,), FinishReason.LENGTH, "truncated"),
        ((RefusalPart(text="No."),), FinishReason.REFUSAL, "refused"),
        ((PROSE,), FinishReason.CONTENT_FILTER, "refused"),
        ((), FinishReason.STOP, "empty"),
        ((" \n",), FinishReason.STOP, "empty"),
        ((ReasoningPart(text="Hm."),), FinishReason.STOP, "empty"),
        (("I cannot do that. " * 200,), FinishReason.STOP, "repetitive"),
        (("我不能。" * 400,), FinishReason.STOP, "repetitive"),
        ((CHINESE,), FinishReason.STOP, "language-mismatch"),
    ],
)
def test_each_defect_has_its_flag(
    parts: tuple[Part | str, ...], finish: FinishReason, flag: str
) -> None:
    """One defect, one flag among those raised."""
    assert flag in quality.flagged(judged(*parts, finish=finish))


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ('{"total": 12.5}', True),
        ('{"total": "12.5"}', False),
        ("{}", False),
        ("The total is 12.5.", False),
        ("", False),
        ("[" * 100_000, None),
        (json.dumps({"total": 1, "note": "x" * 70_000}), None),
    ],
)
def test_a_schema_is_checked_where_that_is_affordable(
    text: str, *, valid: bool | None
) -> None:
    """JSON that fits, JSON that does not, no JSON, and too much to look at."""
    request = asked(output_schema={"json_schema": TOTAL})
    assert judged(text, request=request).schema_valid is valid


@pytest.mark.parametrize(
    "schema",
    [
        {"type": 5},
        {"$ref": "https://elsewhere.example/schema"},
        {"properties": {"total": {"pattern": "("}}},
        {"patternProperties": {"^(a+)+$": {}}},
        {"properties": {"total": {"pattern": "^(a+)+$"}}},
    ],
)
def test_a_schema_that_is_none_is_no_judge(schema: dict[str, object]) -> None:
    """A stranger's schema may be broken or a trap; the answer is not blamed."""
    request = asked(output_schema={"json_schema": schema})
    text = json.dumps({"total": "a" * 60 + "b"})
    assert judged(text, request=request).schema_valid is None


@pytest.mark.parametrize(
    ("name", "arguments", "valid"),
    [
        ("sum", '{"total": 1}', True),
        ("sum", '{"total": "1"}', False),
        ("sum", '{"total": ', False),
        ("sum", "", False),
        ("free", "", True),
        ("free", "{}", True),
        ("unknown", "{}", False),
    ],
)
def test_arguments_are_held_to_the_tools_schema(
    name: str, arguments: str, *, valid: bool
) -> None:
    """A call of no tool, with no JSON, or with the wrong JSON is a bad call."""
    tools: list[dict[str, Any]] = [
        {"name": "sum", "parameters": TOTAL},
        {"name": "free", "parameters": {}},
    ]
    good = ToolCallPart(call_id="a", name="free", arguments="{}")
    call = ToolCallPart(call_id="b", name=name, arguments=arguments)
    found = judged(good, call, request=asked(tools=tools))
    assert found.arguments_valid is valid
    assert found.empty is False


SYSTEM_ZH = {"role": "system", "parts": [{"kind": "text", "text": CHINESE}]}
USER = {"role": "user", "parts": [{"kind": "text", "text": PROSE}]}


@pytest.mark.parametrize(
    ("request_", "answer", "mismatch"),
    [
        (asked(CHINESE), PROSE, True),
        (asked(CHINESE), CHINESE, False),
        (asked("Привет, расскажи подробно о квартальном отчёте для совета " * 2),
         PROSE, True),
        (asked(f"Translate: {PROSE}"), CHINESE, None),
        (asked(f"{CHINESE}请译成英文"), PROSE, None),
        (asked(turns=[SYSTEM_ZH, USER]), CHINESE, None),
        (asked("hi"), CHINESE, None),
        (asked(), "好", None),
        (asked(CHINESE), f"```python\n{PROSE}\n```\n好的", None),
        (asked(), f"{PROSE[:60]} {CHINESE}", None),
        (asked(CHINESE), "これは四半期報告書です。全地域で収益が増えます。", True),
        (asked(output_schema={"json_schema": {}}), CHINESE, None),
    ],
)  # fmt: skip
def test_a_language_is_judged_by_script_when_sure(
    request_: CompletionRequest, answer: str, *, mismatch: bool | None
) -> None:
    """Translations, code, short and mixed texts are no mismatch."""
    assert judged(answer, request=request_).language_mismatch is mismatch


@given(st.text(max_size=300), st.integers(1, 40))
def test_repetition_is_a_share(text: str, times: int) -> None:
    """From 0 to 1, None for what is short, whatever characters."""
    found = quality.repetition(text * times)
    assert found is None or 0 <= found <= 1


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(f"| {n} | item {n} | {n * 7919 % 997} |" for n in range(300)),
        json.dumps([{"id": n, "price": n * 7919 % 997} for n in range(300)]),
        PROSE * 2 + CHINESE * 9,
    ],
)
def test_tables_are_not_called_repetitive(text: str) -> None:
    """Regular is not the same as looping."""
    assert "repetitive" not in quality.flagged(judged(text))
