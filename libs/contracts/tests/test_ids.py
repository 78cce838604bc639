"""Derived ids: the same key, the same id, and no two keys share one by accident."""

from hypothesis import given
from hypothesis import strategies as st

from contracts.ids import derived_id
from contracts.subjects import token

PARTS = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\x1f")), min_size=1
)


@given(key=PARTS, other=PARTS)
def test_only_the_same_key_gives_the_same_id(key: list[str], other: list[str]) -> None:
    """A retry owes the same message; ("ab", "c") and ("a", "bc") never meet."""
    assert (derived_id("m", *key) == derived_id("m", *other)) == (key == other)


@given(key=PARTS)
def test_a_derived_id_is_one_token(key: list[str]) -> None:
    """Whatever the key holds, the id can stand in a subject, a URL and a path."""
    assert token(derived_id("usage", *key)).startswith("usage_")
