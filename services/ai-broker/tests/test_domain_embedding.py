"""An embedding is a question among others, and its vectors fit their frames."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from ai_broker.domain import cache, embedding, estimation
from ai_broker.domain import completion as completions
from ai_broker.domain.guard.policy import GuardPolicy, Mode
from ai_broker.domain.guard.request import Guarded, guard
from contracts.completions import CompletionRequest
from contracts.embeddings import FRAME_VECTOR_BYTES_MAX, EmbeddingRequest

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
TEXTS = st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=5)


def asking(*inputs: str, **changes: object) -> embedding.EmbeddingQuestion:
    """Give a question for vectors."""
    asked: dict[str, object] = {
        "completion_id": "c-1",
        "tenant": "acme",
        "model": "m",
        "inputs": inputs,
        "user": "ann",
        "deadline": NOW,
    }
    return embedding.question_of(EmbeddingRequest.model_validate(asked | changes))


@given(TEXTS)
def test_texts_and_bookkeeping_are_kept(texts: list[str]) -> None:
    """What was asked is in the question, each text in its place."""
    question = asking(*texts, dimensions=8, cache_ttl_s=5)
    assert question.inputs == tuple(texts)
    assert (question.tenant, question.user, question.dimensions) == ("acme", "ann", 8)
    assert question.cache_ttl_s == 5


@given(TEXTS)
def test_it_is_never_the_same_question_as_a_conversation(texts: list[str]) -> None:
    """Equal turns asked for an answer and for vectors are two questions."""
    question = asking(*texts)
    conversation = CompletionRequest.model_validate(
        question.model_dump(exclude={"is_embedding"})
    )
    for digest in (completions.digest_of, cache.question_of):
        assert digest(question) != digest(conversation)
        assert digest(question) != digest(asking(*texts, dimensions=8))
        assert digest(question) == digest(asking(*texts))


def test_only_its_texts_are_estimated() -> None:
    """Vectors are no tokens, heard or not."""
    question = asking("four", "eight ch")
    assert (
        estimation.unheard(question).parts() == estimation.heard(question, ()).parts()
    )
    assert estimation.unheard(question).total == 3
    assert estimation.input_tokens(question) == 3


def test_its_texts_are_masked_like_any_other() -> None:
    """The guard sees the texts, and the question stays one for vectors."""
    question = asking("write to ann@example.com", "nothing here")
    guarded = guard(question, GuardPolicy(mode=Mode.MASK))
    assert isinstance(guarded, Guarded)
    assert isinstance(guarded.request, embedding.EmbeddingQuestion)
    assert "ann@example.com" not in guarded.request.inputs[0]
    assert guarded.request.inputs[1] == "nothing here"


@given(st.lists(st.integers(0, FRAME_VECTOR_BYTES_MAX // 2), max_size=12))
def test_vectors_come_whole_in_frames_that_fit(sizes: list[int]) -> None:
    """In their order, none left out, none twice, and no frame too large."""
    vectors = tuple(bytes([place]) * size for place, size in enumerate(sizes))
    together: list[bytes] = []
    for first, some in embedding.batches(vectors):
        assert first == len(together)
        assert some
        assert sum(map(len, some)) <= FRAME_VECTOR_BYTES_MAX
        together.extend(some)
    assert tuple(together) == vectors
