"""
Whether a model can answer a request at all, before its vendor is asked.

Nothing is refused for what is not known of a model. What the caller allowed to be
dropped is no reason either: the adapter leaves it out and says so. What was said
(text, images, documents, tool calls) is never dropped.
"""

from collections.abc import Iterator

from ai_broker.domain.catalogue import Candidate, Capability
from ai_broker.domain.embedding import EmbeddingQuestion
from contracts.completions import (
    CompletionRequest,
    DocumentPart,
    ImagePart,
    Part,
    ToolResultPart,
)


def misfit(
    request: CompletionRequest, candidate: Candidate, input_tokens: int
) -> str | None:
    """
    Say why a model cannot answer a request; None when it can, as far as is known.

    Args:
        request: The question.
        candidate: The model.
        input_tokens: An estimate of what the question sends.
    """
    name = f"{candidate.vendor}/{candidate.model}"
    known = candidate.capabilities
    if known is not None:
        for needed, field in _needs(request):
            if needed not in known:
                return f"{field}: {name} cannot do {needed}; use another model"
    window = candidate.context_tokens
    # Each of the texts that are to become vectors has the window for itself.
    alone = isinstance(request, EmbeddingQuestion)
    if window is not None and input_tokens > window and not alone:
        return (
            f"turns: about {input_tokens} tokens do not fit into the {window} of "
            f"{name}; shorten them or use another model"
        )
    asked, longest = request.output_tokens_max, candidate.output_tokens_max
    if asked and longest and asked > longest and not request.drop_unsupported:
        return f"output_tokens_max: {name} writes at most {longest} tokens"
    return None


def _needs(request: CompletionRequest) -> Iterator[tuple[Capability, str]]:
    """Return what the request cannot do without, each with the field that says so."""
    if isinstance(request, EmbeddingQuestion):
        yield Capability.EMBEDDINGS, "model"
        return
    yield Capability.TEXT, "turns"
    # Vendors are always asked to stream: only so a stalled answer is noticed.
    yield Capability.STREAMING, "turns"
    for at, turn in enumerate(request.turns):
        for number, part in enumerate(turn.parts):
            needed = _shown(part)
            if needed is not None:
                yield needed, f"turns[{at}].parts[{number}]"
    if request.tools:
        yield Capability.TOOLS, "tools"
    if not request.drop_unsupported:
        yield from _wishes(request)


def _wishes(request: CompletionRequest) -> Iterator[tuple[Capability, str]]:
    """Return what may be dropped where the caller allows it."""
    if request.tools and request.tool_choice.parallel:
        yield Capability.PARALLEL_TOOLS, "tool_choice.parallel"
    if request.output_schema is not None:
        yield Capability.STRUCTURED_OUTPUT, "output_schema"
    if request.reasoning is not None:
        yield Capability.THINKING, "reasoning"
    if request.sampling.logprobs or request.sampling.top_logprobs:
        yield Capability.LOGPROBS, "sampling.logprobs"


def _shown(part: Part) -> Capability | None:
    match part:
        case ImagePart():
            return Capability.IMAGES
        case DocumentPart():
            return Capability.DOCUMENTS
        case ToolResultPart() if any(isinstance(x, ImagePart) for x in part.content):
            return Capability.IMAGES
        case _:
            return None
