"""
Sentences of an answer, made from the facts: findings, summary, reply, plain text.

Nothing is written in advance but the connecting words; every name, number and
sentence comes from the request.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sandbox.arithmetic import Check
from sandbox.documents import Document

MARK: Final = "[sandbox]"
SENTENCES_MAX: Final = 3
COUNT_MAX: Final = 100_000
_TEAM = re.compile(r"support|service|team|help|info@|sales|no-?reply", re.IGNORECASE)
_SAY = re.compile(
    r"\b(?:say|repeat|reply with|answer with|respond with)(?: exactly)?\s*:?\s*"
    r"[\"'“](.+?)[\"'”]",
    re.IGNORECASE | re.DOTALL,
)
_COUNT = re.compile(r"\bcount (?:from (\d+) )?(?:up )?to (\d+)\b", re.IGNORECASE)
_ROLE = re.compile(r"\byou are ([A-Z][\w-]*)", re.IGNORECASE)
_DULL = frozenset(
    [
        "the",
        "and",
        "for",
        "you",
        "your",
        "are",
        "was",
        "were",
        "that",
        "this",
        "with",
        "have",
        "has",
        "had",
        "not",
        "but",
        "from",
        "they",
        "what",
        "which",
        "who",
        "please",
        "check",
        "file",
        "read",
        "say",
        "about",
        "into",
        "its",
        "our",
        "can",
        "will",
    ]
)


@dataclass(frozen=True)
class Facts:
    """
    What the transcript establishes.

    ``documents`` are what was read, or the user's own words when nothing was;
    ``sums`` are the arithmetic that the goal itself asks for; ``unread`` names
    files whose reading failed.
    """

    goal: str
    system: str
    documents: tuple[Document, ...]
    checks: tuple[Check, ...]
    sums: tuple[Check, ...]
    unread: tuple[str, ...]
    was_read: bool

    @property
    def text(self) -> str:
        """All documents as one text."""
        return "\n".join(document.text for document in self.documents)

    @property
    def wrong(self) -> tuple[Check, ...]:
        """The calculations that contradict the documents."""
        return tuple(check for check in self.checks if check.is_wrong)

    @property
    def is_sound(self) -> bool:
        """Every calculation was made and contradicts nothing."""
        return all(check.calculated is not None for check in self.checks) and (
            not self.wrong
        )


def plain_text(facts: Facts) -> str:
    """Answer the goal in words, marked as the sandbox's."""
    said = _SAY.search(facts.goal)
    if said:
        return f"{MARK} {said[1]}"
    counted = _COUNT.search(facts.goal)
    if counted:
        last = min(int(counted[2]), COUNT_MAX)
        numbers = map(str, range(int(counted[1] or 1), last + 1))
        return f"{MARK} {' '.join(numbers)}"
    parts = [f"{name} could not be read." for name in facts.unread]
    parts += [f"{sum_.expression} = {sum_.calculated}." for sum_ in facts.sums]
    if facts.checks:
        parts.append(findings(facts))
    elif facts.was_read:
        parts += relevant_sentences(facts) or ["The documents say nothing about it."]
    if not parts:
        parts = [f"No document was given. You asked: {facts.goal[:400]}"]
    return f"{MARK} {' '.join(parts)}"


def findings(facts: Facts) -> str:
    """Say which sums hold and which do not."""
    if not facts.checks:
        return summary(facts)
    if not facts.wrong and not facts.is_sound:
        return "The sums could not be calculated."
    if not facts.wrong:
        return f"All {len(facts.checks)} calculations agree with the document."
    return " ".join(
        f"{check.label}: stated {check.stated}, calculated {check.calculated}."
        for check in facts.wrong
    )


def summary(facts: Facts) -> str:
    """Quote the sentences that share most words with the subject and the goal."""
    return " ".join(relevant_sentences(facts)) or findings_or_nothing(facts)


def findings_or_nothing(facts: Facts) -> str:
    """Fall back on the findings where a document has no prose."""
    return findings(facts) if facts.checks else ""


def reply(facts: Facts) -> str:
    """Draft an answer to the customer, signed with the role's name."""
    customer = person(facts) or "customer"
    subject = label_value(facts, {"subject"})
    plain = re.sub(r"^(re|fwd?): *", "", subject or "", flags=re.IGNORECASE)
    about = f' about "{plain}"' if plain else ""
    quoted = next(iter(relevant_sentences(facts)), "")
    role = _ROLE.search(facts.system)
    return "\n\n".join(
        part
        for part in (
            f"Dear {customer},",
            f"Thank you for your message{about}.",
            f'You wrote: "{quoted}"' if quoted else "",
            "We are looking into it and will come back to you.",
            f"Kind regards,\n{role[1] if role else 'Customer service'}",
        )
        if part
    )


def person(facts: Facts) -> str | None:
    """Name the first sender who is not a team, without the address."""
    senders = [
        value
        for document in facts.documents
        for label, value in document.labels
        if label.lower() == "from" and not _TEAM.search(value)
    ]
    return re.sub(r"\s*<.*?>", "", senders[0]).strip(' "') if senders else None


def label_value(facts: Facts, wanted: set[str]) -> str | None:
    """Find the first value whose label is one of the wanted, lower-case."""
    labels = (pair for document in facts.documents for pair in document.labels)
    return next((value for label, value in labels if label.lower() in wanted), None)


def relevant_sentences(facts: Facts) -> list[str]:
    """At most three sentences, most shared words first, in the text's order."""
    sentences = [each for document in facts.documents for each in document.sentences]
    subject = label_value(facts, {"subject"}) or ""
    wanted, about = content_words(facts.goal), content_words(subject)
    words = [content_words(sentence) for sentence in sentences]
    scores = [3 * len(wanted & each) + len(about & each) for each in words]
    if not sentences:
        return []
    best = sorted(range(len(sentences)), key=lambda at: -scores[at])[:SENTENCES_MAX]
    return [sentences[at] for at in sorted(best) if scores[at] or not max(scores)]


def content_words(text: str) -> set[str]:
    """Pick the words that carry meaning: three letters or more, plural s dropped."""
    return set(stems(re.findall(r"[a-z]{3,}", text.lower()))) - _DULL


def stems(words: Iterable[str]) -> list[str]:
    """Drop a plural s."""
    return [
        word[:-1] if word.endswith("s") and not word.endswith("ss") else word
        for word in words
    ]
