"""
Thinking before the answer: computed from the request, sealed so that it can be proved.

The text says what was asked, what there is to go by and which rule the answer then
follows. The seal carries the text and a digest of it: given back unchanged it opens,
changed by a character it does not. It is a proof for tests and no secret.
"""

import base64
import hashlib
import zlib
from typing import Final

from sandbox import tokens
from sandbox.conversation import Answer, Conversation, Role, Sight, Thought
from sandbox.payload import compact, object_of

REDACTING_WORDS: Final = (
    "ANTHROPIC_MAGIC_STRING_TRIGGER_REDACTED_THINKING_"
    "46C9A13E193C177646C7398A98432ECCCE4C1253D5E2D82641AC0E52CC2876CB"
)
"""Anthropic's documented words that make it redact its thinking."""
_QUOTED_CHARS: Final = 160
_DIGEST_BYTES: Final = 16
_TEXT_BYTES_MAX: Final = 1 << 20


def think(talk: Conversation, answer: Answer) -> Thought | None:
    """Return what was thought before this answer, None where no thinking was asked."""
    if talk.thinking is None:
        return None
    text = _account(talk, answer)
    for limit in (talk.thinking.tokens_max, talk.tokens_max):
        if limit is not None:
            data = text.encode()[: limit * tokens.BYTES_PER_TOKEN]
            text = data.decode(errors="ignore")
    sight = talk.thinking.sight
    if sight is not Sight.PLAIN and any(REDACTING_WORDS in t.text for t in talk.turns):
        sight = Sight.REDACTED
    return Thought(text, seal(text), sight)


def seal(text: str) -> str:
    """Return a token that holds the text and proves it."""
    data = zlib.compress(text.encode())
    return base64.b64encode(_digest(data) + data).decode()


def unseal(token: str) -> str | None:
    """Return the text of a seal, None for one that the sandbox did not make."""
    try:
        data = base64.b64decode(token, validate=True)
        digest, packed = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if digest != _digest(packed):
            return None
        opened = zlib.decompressobj().decompress(packed, _TEXT_BYTES_MAX)
        return opened.decode()
    except (ValueError, zlib.error):
        return None


def _digest(data: bytes) -> bytes:
    person = b"sandbox thinking"
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES, person=person).digest()


def _account(talk: Conversation, answer: Answer) -> str:
    goals = [turn.text for turn in talk.turns if turn.role is Role.USER and turn.text]
    goal = " ".join(goals[-1].split())[:_QUOTED_CHARS] if goals else "nothing"
    results = sum(turn.role is Role.TOOL for turn in talk.turns)
    known = f"{results} tool results" if results else "the conversation alone"
    return f"I am asked: {goal}. I go by {known}. {_rule(talk, answer)}"


def _rule(talk: Conversation, answer: Answer) -> str:
    if answer.calls:
        steps = "; ".join(
            f"{call.name} with {compact(call.arguments)}" for call in answer.calls
        )
        return f"Rule: what is still missing is fetched first. I call {steps}."
    if talk.answer_schema is not None:
        names = ", ".join(object_of(talk.answer_schema.get("properties")))
        return f"Rule: the schema is filled from what was said. I give {names}."
    if talk.json_only:
        return "Rule: a JSON object was asked for. I give one."
    return "Rule: without a schema I answer in prose."
