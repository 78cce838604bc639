"""What ai-broker listens to, one function per subject."""

from ai_broker import handlers
from ai_broker.handlers import Desk
from contracts import subjects
from contracts.completions import CompletionRequest
from contracts.frames import CancelCompletion
from contracts.models import ListModels, ModelPage
from messaging.bus import Delivery
from messaging.subscriptions import (
    Answer,
    AnswerInFrames,
    FrameSink,
    Hear,
    Subscription,
)


def subscriptions(desk: Desk) -> tuple[Subscription, ...]:
    """Bind every subject to its handler."""

    async def on_completion_requested(
        request: CompletionRequest, _delivery: Delivery, sink: FrameSink
    ) -> None:
        await handlers.complete(request, sink, desk)

    async def on_cancel(message: CancelCompletion) -> None:
        await handlers.cancel(message, desk)

    async def on_models(_request: ListModels, _delivery: Delivery) -> ModelPage:
        return desk.deps.menu.listing()

    return (
        AnswerInFrames(subjects.COMPLETE, CompletionRequest, on_completion_requested),
        Answer(subjects.MODELS, ListModels, on_models),
        Hear(
            subjects.cancel_completion(desk.deps.instance), CancelCompletion, on_cancel
        ),
    )
