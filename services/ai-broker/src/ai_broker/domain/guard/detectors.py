r"""
Where in a text personal data stands: shapes as data, checked by small validators.

``\b`` is of no use here: between a Chinese character and a Latin one Python sees no
boundary, and people write ``请联系zhang.san@example.com谢谢``. So every shape says
itself what may not stand beside it. Everything runs in time linear in the text: an
address is looked for around its ``@``, numbers only where digits cluster, and no shape
has a repeat without a limit.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from ai_broker.domain.guard import checksums
from ai_broker.domain.guard.folding import fold
from ai_broker.domain.guard.policy import GuardPolicy, Kind

LOCAL_CHARACTERS_MAX: Final = 64

_LATIN: Final = r"A-Za-z0-9\u00c0-\u1fff"
"""Scripts with spaces between words: Latin, Greek, Cyrillic, Arabic, Indic, Thai."""
_CJK: Final = r"\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"
_CJK_TLDS: Final = (
    "中国|中國|公司|网络|網絡|网址|网店|网站|中文网|在线|中信|公益|政务|政府"
    "|商标|商城|商店|集团|企业|机构|组织机构|移动|手机|信息|我爱你|香港|澳門"
    "|澳门|台湾|台灣|新加坡|世界|娱乐|游戏|餐厅|食品|健康|招聘|时尚|购物|网校"
    "|佛山|广东|慈善|联通|珠宝|八卦|大拿|家電|亚马逊|コム|みんな|ストア|セール"
    "|クラウド|ポイント|ファッション|통신|한국|닷컴|닷넷|삼성"
)
"""Where no space ends a domain, only a known end does. Source: IANA's root zone."""

_LOCAL: Final = re.compile(rf"[{_LATIN}_][{_LATIN}_.%+'-]{{0,63}}\Z")
_LOCAL_CJK: Final = re.compile(r"[\w.+-]{1,64}\Z")
_DOMAIN: Final = re.compile(
    rf"(?:[{_CJK}][{_CJK}{_LATIN}-]{{0,62}}|[{_LATIN}][{_LATIN}-]{{0,62}})\."
    rf"(?:(?:[{_LATIN}][{_LATIN}-]{{0,62}}|[{_CJK}]{{1,63}})\.){{0,7}}"
    rf"(?:xn--[A-Za-z0-9-]{{2,59}}|[A-Za-z]{{2,24}}|[\u00c0-\u1fff]{{2,24}}"
    rf"|{_CJK_TLDS})"
)

_CLUSTER: Final = re.compile(r"[0-9](?:[ .()+/-]{0,3}[0-9Xx]){3,}")
_CLUSTER_CHARACTERS_MIN: Final = 7
_SEPARATORS: Final = re.compile(r"[ .()+/-]+")
_CLUSTER_BEFORE: Final = 4
_CLUSTER_AFTER: Final = 2
_ALONE: Final = r"(?<![0-9])(?<![0-9]\.)"
_OVER: Final = r"(?![0-9])(?!\.[0-9])"

_RESIDENT: Final = re.compile(
    rf"{_ALONE}[1-9][0-9]{{5}}[ -]?(?:18|19|20)[0-9]{{2}}(?:0[1-9]|1[0-2])"
    r"(?:0[1-9]|[12][0-9]|3[01])[ -]?[0-9]{3}[0-9Xx](?![0-9])"
)
_CARD: Final = re.compile(
    rf"{_ALONE}[0-9]{{3,19}}(?![0-9])(?:[ -]{{1,2}}[0-9]{{1,19}}(?![0-9])){{0,5}}"
)
_CARD_LENGTHS: Final = range(13, 20)
_GROUP: Final = re.compile(r"[0-9]+")
_CARD_GROUP_MIN: Final = 3
_SSN: Final = re.compile(
    r"(?<![0-9A-Za-z_-])(?!000|666|9)[0-9]{3}([ -])(?!00)[0-9]{2}\1(?!0000)[0-9]{4}"
    r"(?![0-9A-Za-z_-])"
)
_PHONE: Final = re.compile(
    rf"{_ALONE}(?:\(\+?86\) ?|(?:\+|00)86[ -]?)?"
    rf"1[3-9][0-9][ -]?[0-9]{{4}}[ -]?[0-9]{{4}}{_OVER}"
    r"|(?<![0-9A-Za-z+])\+[1-9](?:[ .()-]{0,2}[0-9]){7,14}(?![0-9])"
    r"|(?<![0-9A-Za-z.-])(?:1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[.-])"
    r"[2-9][0-9]{2}[.-][0-9]{4}(?![0-9A-Za-z-])"
)
_OCTET: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IP4: Final = re.compile(
    rf"(?<![0-9A-Za-z.])(?:{_OCTET}\.){{3}}{_OCTET}(?![0-9A-Za-z]|\.[0-9])"
)
_IP6: Final = re.compile(
    r"(?<![0-9A-Za-z:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}"
    rf"(?:(?<=:)(?:{_OCTET}\.){{3}}{_OCTET})?(?![0-9A-Za-z:])"
)
_IBAN: Final = re.compile(
    r"(?<![0-9A-Za-z])[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30}(?![a-z])"
)
_DIGIT: Final = re.compile(r"[0-9]")
_HINT: Final = re.compile(r"[0-9@:\\]")

Span = tuple[int, int, str]
"""Start, end and what placeholders of its kind are called."""
Finder = Callable[[str], Iterator[tuple[int, int]]]


@dataclass(frozen=True)
class Detectors:
    """What one tenant's texts are searched for."""

    kinds: frozenset[Kind]
    own: tuple[tuple[str, re.Pattern[str]], ...]

    def spans(self, text: str) -> list[Span]:
        """Return the places of personal data, in order and apart from each other."""
        if not self.own and text.isascii() and not _HINT.search(text):
            return []
        folded = fold(text)
        found = list(self._found(folded.text))
        if not found:
            return found
        return _apart([(*folded.original(a, b), name) for a, b, name in found])

    def _found(self, text: str) -> Iterator[Span]:
        for name, pattern in self.own:
            for match in pattern.finditer(text):
                yield *match.span(), name
        for kind, mark, find in _WORDS:
            if mark in text and kind in self.kinds:
                yield from _named(find(text), kind)
        if _DIGIT.search(text):
            yield from self._numbers(text)

    def _numbers(self, text: str) -> Iterator[Span]:
        if Kind.IBAN in self.kinds:
            yield from _named(_ibans(text), Kind.IBAN)
        for cluster in _CLUSTER.finditer(text):
            if cluster.end() - cluster.start() < _CLUSTER_CHARACTERS_MIN:
                continue
            digits = len(_SEPARATORS.sub("", cluster[0]))
            first = max(cluster.start() - _CLUSTER_BEFORE, 0)
            window = text[first : cluster.end() + _CLUSTER_AFTER]
            for kind, digits_min, find in _NUMBERS:
                if digits >= digits_min and kind in self.kinds:
                    found = ((first + a, first + b) for a, b in find(window))
                    yield from _named(found, kind)


def detectors_of(policy: GuardPolicy) -> Detectors:
    """Return a policy's detectors."""
    own = tuple((each.name, each.pattern) for each in policy.patterns)
    return _compiled(frozenset(policy.kinds), own)


@lru_cache(maxsize=512)
def _compiled(kinds: frozenset[Kind], own: tuple[tuple[str, str], ...]) -> Detectors:
    return Detectors(kinds, tuple((name, re.compile(each)) for name, each in own))


def _named(places: Iterator[tuple[int, int]], kind: Kind) -> Iterator[Span]:
    name = kind.value.upper().replace("-", "_")
    return ((start, end, name) for start, end in places)


def _apart(spans: list[Span]) -> list[Span]:
    """Join what overlaps, under the name of what begins first and reaches farthest."""
    spans.sort(key=lambda each: (each[0], -each[1]))
    joined: list[Span] = []
    for start, end, name in spans:
        if joined and start < joined[-1][1]:
            first = joined[-1]
            joined[-1] = (first[0], max(first[1], end), first[2])
        else:
            joined.append((start, end, name))
    return joined


def _emails(text: str) -> Iterator[tuple[int, int]]:
    at = text.find("@")
    while at >= 0:
        domain = _DOMAIN.match(text, at + 1)
        if domain is not None:
            before = text[max(at - LOCAL_CHARACTERS_MAX, 0) : at]
            local = _LOCAL.search(before) or _LOCAL_CJK.search(before)
            if local is not None:
                yield at - len(local[0]), domain.end()
        at = text.find("@", at + 1)


def _matches(pattern: re.Pattern[str]) -> Finder:
    return lambda text: (each.span() for each in pattern.finditer(text))


def _residents(text: str) -> Iterator[tuple[int, int]]:
    for each in _RESIDENT.finditer(text):
        if checksums.is_resident_id(re.sub("[ -]", "", each[0])):
            yield each.span()


def _cards(text: str) -> Iterator[tuple[int, int]]:
    run = _CARD.search(text)
    while run is not None:
        start = run.start()
        groups = [each.span() for each in _GROUP.finditer(run[0])]
        taken = _card_length(run[0], groups)
        if taken:
            yield start, start + groups[taken - 1][1]
        run = _CARD.search(text, start + groups[max(taken, 1) - 1][1])


def _card_length(text: str, groups: list[tuple[int, int]]) -> int:
    """Return how many groups of digits, from the first, are a card; 0 if none."""
    digits, taken = "", 0
    for number, (start, end) in enumerate(groups, 1):
        digits += text[start:end]
        if len(digits) in _CARD_LENGTHS and _is_card(digits):
            taken = number
        if len(digits) >= _CARD_LENGTHS.stop or end - start < _CARD_GROUP_MIN:
            break
    return taken


def _is_card(digits: str) -> bool:
    # 2 to 6 are the banks' and merchants' first digits; others are times and ids.
    return digits[0] in "23456" and checksums.is_luhn(digits)


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    found = _IBAN.search(text)
    while found is not None:
        start = found.start()
        end = start + _iban_end(found[0])
        follows = text[end : end + 1]
        glued = follows.isascii() and follows.isalnum()
        if end > start and not glued:
            yield start, end
            found = _IBAN.search(text, end)
        else:
            found = _IBAN.search(text, start + 2)


def _iban_end(candidate: str) -> int:
    """Return where a valid account ends; 0 if there is none."""
    length = checksums.IBAN_LENGTHS.get(candidate[:2], 0)
    account = ""
    for end, each in enumerate(candidate, 1):
        account += each.strip()
        if len(account) == length:
            return end if checksums.is_iban(account) else 0
    return 0


def _ip4(text: str) -> Iterator[tuple[int, int]]:
    return _addresses(_IP4, text)


def _ip6(text: str) -> Iterator[tuple[int, int]]:
    for start, end in _addresses(_IP6, text):
        # C++ and Ruby write ``a::b`` too.
        if any(each.isdigit() for each in text[start:end]):
            yield start, end


def _addresses(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    for each in pattern.finditer(text):
        try:
            address = ipaddress.ip_address(each[0])
        except ValueError:
            continue
        if not (address.is_loopback or address.is_unspecified):
            yield each.span()


_WORDS: Final[tuple[tuple[Kind, str, Finder], ...]] = (
    (Kind.EMAIL, "@", _emails),
    (Kind.IP, ":", _ip6),
)
_NUMBERS: Final[tuple[tuple[Kind, int, Finder], ...]] = (
    (Kind.CN_ID, 18, _residents),
    (Kind.CARD, 13, _cards),
    (Kind.SSN, 9, _matches(_SSN)),
    (Kind.PHONE, 8, _matches(_PHONE)),
    (Kind.IP, 4, _ip4),
)
"""With the fewest digits that each has, so that dates cost little."""
