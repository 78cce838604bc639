"""
An embedding is a question whose answer is vectors.

So it is claimed, routed, called, settled and stored like any other: one path of money
for both. Its texts are one turn each, and whatever looks at turns (masking, estimates)
sees them. What differs asks ``isinstance``: who may stand in for whom, the vendor's
endpoint, the estimate of an answer, which has no tokens, and what it is made of.
"""

from collections.abc import Iterator
from typing import Literal

from ai_broker.domain.catalogue import Candidate
from contracts.completions import ChatTurn, CompletionRequest, Role, TextPart
from contracts.embeddings import FRAME_VECTOR_BYTES_MAX, EmbeddingRequest


class EmbeddingQuestion(CompletionRequest):
    """An embeddings request among the broker's questions."""

    is_embedding: Literal[True]
    """Without a default, so that digests tell it from a conversation."""
    dimensions: int | None = None
    """How long the vectors should be; None is the model's own length."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the texts, one for each turn."""
        return tuple(
            "".join(part.text for part in turn.parts if isinstance(part, TextPart))
            for turn in self.turns
        )


def question_of(request: EmbeddingRequest) -> EmbeddingQuestion:
    """Return the question that a request asks."""
    shared = request.model_dump(exclude={"inputs"}, exclude_none=True)
    turns = tuple(
        ChatTurn(role=Role.USER, parts=(TextPart(text=text),))
        for text in request.inputs
    )
    return EmbeddingQuestion(is_embedding=True, turns=turns, **shared)


def one_space(candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
    """
    Return the first choice, and whoever else runs the very same model.

    Vectors of two models cannot be compared: to fall over to another one would spoil
    whatever they are kept in, without an error.
    """
    return tuple(each for each in candidates if each.model == candidates[0].model)


def batches(
    vectors: tuple[bytes, ...],
) -> Iterator[tuple[int, tuple[bytes, ...]]]:
    """Yield vectors in groups that fit a frame, each with the place of its first."""
    first = size = 0
    for place, vector in enumerate(vectors):
        if place > first and size + len(vector) > FRAME_VECTOR_BYTES_MAX:
            yield first, vectors[first:place]
            first, size = place, 0
        size += len(vector)
    if vectors:
        yield first, vectors[first:]
