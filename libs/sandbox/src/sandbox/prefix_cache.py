"""
Prompt caching, so that cached tokens can be accounted: off unless asked for.

A prefix is the tools, schema and first n turns of a request, under one API key and
model. Prefixes of at least 1024 tokens are remembered; the longest one seen before
is read from the cache, the rest of the prompt is written to it.
"""

import hashlib
from collections import OrderedDict
from typing import Final

from sandbox import tokens
from sandbox.conversation import Conversation

PREFIX_TOKENS_MIN: Final = 1024
PREFIXES_MAX: Final = 20_000


class PrefixCache:
    """Remembers prefixes by digest; the least recently used are forgotten."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def look_up(self, key: str, conversation: Conversation) -> tuple[int, int]:
        """Return (tokens read, tokens newly written) and remember the prefixes."""
        if not self._enabled:
            return 0, 0
        read = longest = 0
        total = tokens.count_frame(conversation)
        frame = (
            key,
            conversation.model,
            conversation.tools,
            conversation.answer_schema,
        )
        digest = hashlib.sha256(repr(frame).encode())
        for turn in conversation.turns:
            total += tokens.count_turn(turn)
            digest.update(repr(turn).encode())
            if total < PREFIX_TOKENS_MIN:
                continue
            longest = total
            if digest.digest() in self._seen:
                read = total
            self._seen[digest.digest()] = None
            self._seen.move_to_end(digest.digest())
        while len(self._seen) > PREFIXES_MAX:
            self._seen.popitem(last=False)
        return read, longest - read
