"""
Prompt caching, so that cached tokens can be accounted: off unless asked for.

A prefix is the tools, schema and first n turns of a request, under one API key and
model, of at least 1024 tokens. OpenAI remembers every prefix by itself. Anthropic
remembers those that the caller marked, for five minutes or an hour: the longest one
that is still remembered is read, what stands between it and the last mark is written,
each part for as long as the mark at its end says. A read renews the lifetime.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from sandbox import tokens
from sandbox.conversation import Conversation

PREFIX_TOKENS_MIN: Final = 1024
PREFIXES_MAX: Final = 20_000
LIFETIMES_S: Final = {"5m": 300.0, "1h": 3600.0}


@dataclass(frozen=True)
class Caching:
    """Tokens of one prompt read from the cache and written to it."""

    read: int = 0
    written: int = 0
    written_1h: int = 0


@dataclass(frozen=True)
class _Prefix:
    digest: bytes
    tokens: int
    ttl: str


class PrefixCache:
    """Remembers prefixes by digest; the least recently used are forgotten."""

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled
        self._ends_at: OrderedDict[bytes, float] = OrderedDict()

    def look_up(
        self, key: str, conversation: Conversation, now: float, *, automatic: bool
    ) -> Caching:
        """Return what was read and newly written, and remember the prefixes."""
        if not self.enabled or not (automatic or conversation.cache_asked):
            return Caching()
        prefixes = [
            replace(prefix, ttl="5m") if automatic else prefix
            for prefix in _prefixes(key, conversation)
            if prefix.tokens >= PREFIX_TOKENS_MIN
        ]
        marked = [prefix for prefix in prefixes if prefix.ttl]
        longest = marked[-1].tokens if marked else 0
        known = [
            prefix.tokens
            for prefix in prefixes
            if prefix.tokens <= longest and self._ends_at.get(prefix.digest, now) > now
        ]
        read = max(known, default=0)
        done, written = read, {"5m": 0, "1h": 0}
        for prefix in marked:
            written[prefix.ttl] += max(prefix.tokens - done, 0)
            done = max(done, prefix.tokens)
            self._remember(prefix, now)
        return Caching(read, sum(written.values()), written["1h"])

    def _remember(self, prefix: _Prefix, now: float) -> None:
        ends_at = now + LIFETIMES_S[prefix.ttl]
        known = self._ends_at.get(prefix.digest, 0.0)
        self._ends_at[prefix.digest] = max(ends_at, known)
        self._ends_at.move_to_end(prefix.digest)
        if len(self._ends_at) > PREFIXES_MAX:
            self._ends_at.popitem(last=False)


def _prefixes(key: str, conversation: Conversation) -> Iterator[_Prefix]:
    """Give each prefix with its length and the mark at its end."""
    total = tokens.count_frame(conversation)
    frame = (key, conversation.model, conversation.tools, conversation.answer_schema)
    digest = hashlib.sha256(repr(frame).encode())
    yield _Prefix(digest.digest(), total, conversation.frame_ttl)
    for turn in conversation.turns:
        total += tokens.count_turn(turn)
        digest.update(repr(replace(turn, cache_ttl="")).encode())
        yield _Prefix(digest.digest(), total, turn.cache_ttl)
