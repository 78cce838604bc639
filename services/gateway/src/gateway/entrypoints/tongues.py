"""The protocols that the doors speak, by their paths."""

from collections.abc import Mapping
from typing import Any, Final

from gateway.domain.anthropic_answer import anthropic_message
from gateway.domain.anthropic_error import anthropic_problem
from gateway.domain.anthropic_request import read_anthropic
from gateway.domain.anthropic_stream import AnthropicStream
from gateway.domain.embeddings import embedding_list, read_embeddings
from gateway.domain.openai_answer import chat_completion
from gateway.domain.openai_error import openai_problem
from gateway.domain.openai_request import read_openai
from gateway.domain.openai_stream import OpenAIStream
from gateway.domain.question import Question
from gateway.entrypoints.dialect import CHAT, EMBEDDINGS, MESSAGES, request_id
from gateway.entrypoints.doors import Tongue


def _anthropic_stream(question: Question, _created: int) -> AnthropicStream:
    return AnthropicStream(question, request_id())


# Any: each protocol has its own form of question, which only it reads.
TONGUES: Final[Mapping[str, Tongue[Any]]] = {
    EMBEDDINGS: Tongue(read_embeddings, openai_problem, embedding_list, None),
    CHAT: Tongue(read_openai, openai_problem, chat_completion, OpenAIStream),
    MESSAGES: Tongue(
        read_anthropic, anthropic_problem, anthropic_message, _anthropic_stream
    ),
}
