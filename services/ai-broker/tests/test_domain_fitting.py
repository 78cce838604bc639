"""Whether a model can answer at all: what it lacks is named, what is unknown is not."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import ask

from ai_broker.domain.catalogue import Candidate, Capability
from ai_broker.domain.fitting import misfit

PLAIN = frozenset({Capability.TEXT, Capability.STREAMING})
ALL = frozenset(Capability)
IMAGE = {"kind": "image", "url": "https://x.example/a.png"}
PDF = {"kind": "document", "media_type": "application/pdf", "url": "https://x.example"}
SHOWN = {"kind": "tool-result", "call_id": "c", "content": [IMAGE]}
TOOL = {"name": "f", "parameters": {"type": "object"}}


def model(
    capabilities: frozenset[Capability] | None,
    context_tokens: int | None = None,
    output_tokens_max: int | None = None,
) -> Candidate:
    """Give a model that can do this."""
    return Candidate(
        "v",
        "m",
        capabilities=capabilities,
        context_tokens=context_tokens,
        output_tokens_max=output_tokens_max,
    )


def said(part: dict[str, Any]) -> dict[str, object]:
    """Give one turn of this part."""
    return {"turns": [{"role": "user", "parts": [part]}]}


# What a request has, the capability that it needs, the field that is named, and
# whether the caller may let it be dropped.
NEEDS: list[tuple[dict[str, object], Capability, str, bool]] = [
    (said(IMAGE), Capability.IMAGES, "turns[0].parts[0]", False),
    (said(SHOWN), Capability.IMAGES, "turns[0].parts[0]", False),
    (said(PDF), Capability.DOCUMENTS, "turns[0].parts[0]", False),
    ({"tools": [TOOL]}, Capability.TOOLS, "tools", False),
    (
        {"tools": [TOOL], "tool_choice": {"parallel": True}},
        Capability.PARALLEL_TOOLS,
        "tool_choice.parallel",
        True,
    ),
    (
        {"output_schema": {"json_schema": {}}},
        Capability.STRUCTURED_OUTPUT,
        "output_schema",
        True,
    ),
    ({"reasoning": {"effort": "low"}}, Capability.THINKING, "reasoning", True),
    (
        {"sampling": {"logprobs": True}},
        Capability.LOGPROBS,
        "sampling.logprobs",
        True,
    ),
]


@pytest.mark.parametrize(("changes", "needed", "field", "droppable"), NEEDS)
def test_what_a_model_lacks_is_named(
    changes: dict[str, object],
    needed: Capability,
    field: str,
    *,
    droppable: bool,
) -> None:
    """The next candidate may do it, and the caller reads what to change."""
    request = ask(**changes)
    lacking = model(ALL - {needed})
    why = misfit(request, lacking, 1)
    assert why is not None
    assert why.startswith(f"{field}: ")
    assert needed in why
    assert misfit(request, model(ALL), 1) is None
    lenient = ask(**changes, drop_unsupported=True)
    assert (misfit(lenient, lacking, 1) is None) is droppable


def test_a_model_that_embeds_is_not_asked_to_talk() -> None:
    """Text and streaming are needed by every completion."""
    assert misfit(ask(), model(frozenset({Capability.EMBEDDINGS})), 1) is not None
    assert misfit(ask(), model(PLAIN - {Capability.STREAMING}), 1) is not None
    assert misfit(ask(), model(PLAIN), 1) is None


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_a_window_takes_what_fits_and_no_token_more(window: int, tokens: int) -> None:
    """A question that is larger goes to the next candidate."""
    why = misfit(ask(), model(None, context_tokens=window), tokens)
    assert (why is None) is (tokens <= window)


def test_a_longer_answer_than_the_model_writes_is_no_fit() -> None:
    """Unless the caller lets the limit be lowered."""
    short = model(None, output_tokens_max=100)
    why = misfit(ask(output_tokens_max=101), short, 1)
    assert why is not None
    assert why.startswith("output_tokens_max: ")
    assert misfit(ask(output_tokens_max=101, drop_unsupported=True), short, 1) is None
    assert misfit(ask(output_tokens_max=100), short, 1) is None


@pytest.mark.parametrize(("changes", "_needed", "_field", "_droppable"), NEEDS)
def test_what_is_unknown_refuses_nothing(
    changes: dict[str, object], _needed: str, _field: str, *, _droppable: bool
) -> None:
    """A model that the catalogue does not describe is asked, and says itself."""
    assert misfit(ask(**changes), model(None), 10**9) is None
