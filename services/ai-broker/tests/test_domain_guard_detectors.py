# ruff: noqa: RUF001 -- characters that look alike are what is tested
"""Personal data is found however it is written, and ordinary text is left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_broker.domain.guard import checksums
from ai_broker.domain.guard.detectors import detectors_of
from ai_broker.domain.guard.policy import GuardPolicy, Kind, Mode

ALL = detectors_of(GuardPolicy(mode=Mode.MASK))


def found(text: str) -> list[tuple[str, str]]:
    """Give what is found, by kind."""
    return [(name, text[start:end]) for start, end, name in ALL.spans(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mail zhang.san@example.com.", [("EMAIL", "zhang.san@example.com")]),
        (
            "请联系zhang.san@example.com或13812345678谢谢",
            [("EMAIL", "zhang.san@example.com"), ("PHONE", "13812345678")],
        ),
        (
            "电话１３８１２３４５６７８，邮箱zhang＠example．com。",
            [("PHONE", "１３８１２３４５６７８"), ("EMAIL", "zhang＠example．com")],
        ),
        ("a\u200bb@exam\u200bple.com!", [("EMAIL", "a\u200bb@exam\u200bple.com")]),
        ("user@例子.中国请回复", [("EMAIL", "user@例子.中国")]),
        ("张三@例子.公司", [("EMAIL", "张三@例子.公司")]),
        ("müller@exämple.de, иван@пример.рф", [
            ("EMAIL", "müller@exämple.de"), ("EMAIL", "иван@пример.рф"),
        ]),
        ("x@xn--fsqu00a.xn--fiqs8s", [("EMAIL", "x@xn--fsqu00a.xn--fiqs8s")]),
        ("4111 1111 1111 1111 12/28", [("CARD", "4111 1111 1111 1111")]),
        ("卡号4111-1111-1111-1111。", [("CARD", "4111-1111-1111-1111")]),
        ("3782 822463 10005", [("CARD", "3782 822463 10005")]),
        ("6212345678900000003", [("CARD", "6212345678900000003")]),
        ("身份证11010519491231002X号", [("CN_ID", "11010519491231002X")]),
        ("11010519491231002x", [("CN_ID", "11010519491231002x")]),
        ("110105 19491231 002X", [("CN_ID", "110105 19491231 002X")]),
        ("SSN 078-05-1120", [("SSN", "078-05-1120")]),
        ("(+86)138-1234-5678", [("PHONE", "(+86)138-1234-5678")]),
        ("+1 (415) 555-2671", [("PHONE", "+1 (415) 555-2671")]),
        ("call 415-555-2671", [("PHONE", "415-555-2671")]),
        ("+49 30 1234567", [("PHONE", "+49 30 1234567")]),
        ("192.168.1.17:8080", [("IP", "192.168.1.17")]),
        ("[2001:db8::ff00:42:8329]:443", [("IP", "2001:db8::ff00:42:8329")]),
        ("DE89 3704 0044 0532 0130 00 BIC", [("IBAN", "DE89 3704 0044 0532 0130 00")]),
        ("AB12 GB82WEST12345698765432", [("IBAN", "GB82WEST12345698765432")]),
        (r'{"a":"\u8bf713812345678"}', [("PHONE", "13812345678")]),
        (r"\n078-05-1120", [("SSN", "078-05-1120")]),
        (r"zhang\u0040example.com", [("EMAIL", r"zhang\u0040example.com")]),
    ],
)  # fmt: skip
def test_it_is_found(text: str, expected: list[tuple[str, str]]) -> None:
    """Between Chinese and Latin, full-width, widthless, escaped, grouped: all of it."""
    assert found(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "0.4111111111111111 and 1.4929384756102938",
        "550e8400-e29b-41d4-a716-446655440000",
        "4111 1111 1111 1112",
        "11010519491231002Y 110105194912310021",
        "41111111111111111111111",
        "1700000000000 2024-01-02T12:30:45 1,234,567.89",
        "00:1A:2B:3C:4D:5E 12:30:45 std::vector a::b ::1 127.0.0.1 0.0.0.0",
        "@types/node lodash@4.17.21 @mention someone@ a@b",
        "000-12-3456 666-12-3456 123-00-4567 1234-56-7890",
        "DE88 3704 0044 0532 0130 00",
        "v1.2.3.4.5 300.1.1.1",
        "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20",
        "请在三天内回复。",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    """Wrong checksums, times, versions, ids and code are nobody's data."""
    assert found(text) == []


def test_only_what_is_asked_for_is_found() -> None:
    """A policy names its kinds."""
    only = detectors_of(GuardPolicy(mode=Mode.MASK, kinds=(Kind.PHONE,)))
    text = "a@example.com 13812345678 192.168.1.17"
    assert [name for _, _, name in only.spans(text)] == ["PHONE"]


@given(st.text(alphabet="0123456789", min_size=12, max_size=18))
def test_a_card_number_has_one_check_digit(digits: str) -> None:
    """Of ten last digits exactly one fits."""
    assert sum(checksums.is_luhn(digits + str(last)) for last in range(10)) == 1


@given(st.text(alphabet="0123456789", min_size=17, max_size=17))
def test_a_resident_id_has_one_check_character(digits: str) -> None:
    """Of eleven last characters exactly one fits."""
    checks = "0123456789X"
    assert sum(checksums.is_resident_id(digits + last) for last in checks) == 1


@given(
    st.text(alphabet="请在x 7.-+@:(", max_size=20),
    st.sampled_from(["a.b@example.com", "13812345678", "4111111111111111"]),
    st.text(alphabet="谢谢，。 )", max_size=8),
)
def test_a_value_is_covered_whatever_stands_before(
    before: str, value: str, after: str
) -> None:
    """Unless glued to something that makes it another value, it does not stay."""
    text = f"{before}，{value}{after}"
    place = len(before) + 1
    assert any(
        start <= place and place + len(value) <= end
        for start, end, _ in ALL.spans(text)
    )
