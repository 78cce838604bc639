"""The first-token gate and the caps of a second call."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_broker.domain.gate import CHARACTERS_MAX, PIECES_MAX, Gate, is_content
from ai_broker.domain.hedging import Hedge, delay_s, is_affordable
from ai_broker.domain.latency import SAMPLES_MIN, Latency
from ai_broker.domain.vendor import Declined, Piece, Reasoning, Text, ToolCallPiece

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)

PIECES = st.one_of(
    st.builds(Text, st.just(0), st.sampled_from(["", "a"])),
    st.builds(Declined, st.just(1), st.sampled_from(["", "no"])),
    st.builds(Reasoning, st.just(2), st.text(max_size=3)),
    st.builds(
        ToolCallPiece,
        st.just(3),
        st.just("c"),
        st.sampled_from([None, "tool"]),
        st.sampled_from(["", "{"]),
    ),
)


@given(st.lists(PIECES, max_size=90))
def test_nothing_passes_the_gate_before_content(pieces: list[Piece]) -> None:
    """Held until the first content or the bound; then everything, in order, once."""
    gate, passed = Gate(), list[Piece]()
    for number, piece in enumerate(pieces, 1):
        passed += gate.take(piece)
        real = any(map(is_content, pieces[:number]))
        assert gate.is_open == (real or number >= PIECES_MAX)
        assert passed == (pieces[:number] if gate.is_open else [])
    passed += gate.release()
    assert passed == pieces


def test_a_long_reasoning_is_not_kept_in_memory() -> None:
    """The bound on characters opens the gate."""
    gate = Gate()
    half = Reasoning(0, "x" * (CHARACTERS_MAX // 2))
    assert gate.take(half) == ()
    assert gate.take(half) == (half, half)


def test_a_quantile_s_delay_waits_for_samples() -> None:
    """A fixed delay holds from the start; a percentile only once it is known."""
    fixed = Hedge(after_ms=250, cost_ratio_max=1)
    usual = Hedge(after="p95", cost_ratio_max=1)
    assert delay_s(fixed, Latency()) == 0.25
    assert delay_s(usual, Latency()) is None
    latency = Latency()
    for _ in range(SAMPLES_MIN):
        latency = latency.began(0.4, NOW)
    assert delay_s(usual, latency) == 0.4


@pytest.mark.parametrize(
    ("cap", "ratio", "extra", "first", "fits"),
    [
        (100, None, 100, None, True),
        (100, None, 101, None, False),
        (None, 1.5, 150, 100, True),
        (None, 1.5, 151, 100, False),
        (None, 1.5, 150, None, False),
        (100, 1.5, 120, 100, False),
        (100, None, None, 1, False),
    ],
)
def test_a_second_call_fits_every_cap(
    cap: int | None,
    ratio: float | None,
    extra: int | None,
    first: int | None,
    fits: bool,  # noqa: FBT001 -- a table's column
) -> None:
    """Both caps hold, and an unknown price fits none."""
    hedge = Hedge(after_ms=1, cost_max_pico_usd=cap, cost_ratio_max=ratio)
    assert is_affordable(hedge, extra, first) is fits
