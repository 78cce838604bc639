"""What ai-broker listens to, one function per subject."""

from ai_broker import handlers
from ai_broker.domain import embedding
from ai_broker.handlers import Desk
from ai_broker.handlers.returns import Returns
from ai_broker.ports.rates import Rates
from contracts import subjects
from contracts.budgets import LeaseRecall
from contracts.completions import CompletionRequest
from contracts.credentials import (
    CredentialInfo,
    CredentialPage,
    ListCredentials,
    PutCredential,
    RemoveCredential,
)
from contracts.delivery import Nothing
from contracts.embeddings import EmbeddingRequest
from contracts.frames import CancelCompletion
from contracts.models import ListModels, ModelPage
from contracts.vendors import CheckVendor, ListVendors, VendorCheck, VendorPage
from messaging.bus import Delivery
from messaging.subscriptions import (
    Answer,
    AnswerInFrames,
    FrameSink,
    Hear,
    Subscription,
)

Subscriptions = tuple[Subscription, ...]


def subscriptions(desk: Desk, returns: Returns, rates: Rates) -> Subscriptions:
    """Bind every subject to its handler."""

    async def on_completion_requested(
        request: CompletionRequest, _delivery: Delivery, sink: FrameSink
    ) -> None:
        await handlers.admit(request, sink, desk, rates)

    async def on_embedding_requested(
        request: EmbeddingRequest, _delivery: Delivery, sink: FrameSink
    ) -> None:
        await handlers.admit(embedding.question_of(request), sink, desk, rates)

    async def on_cancel(message: CancelCompletion) -> None:
        await handlers.cancel(message, desk)

    async def on_recall(message: LeaseRecall) -> None:
        await returns.recall(message)

    return (
        AnswerInFrames(subjects.COMPLETE, CompletionRequest, on_completion_requested),
        AnswerInFrames(subjects.EMBED, EmbeddingRequest, on_embedding_requested),
        *_about_vendors(desk),
        Hear(
            subjects.cancel_completion(desk.deps.instance), CancelCompletion, on_cancel
        ),
        Hear(subjects.RECALL_ANY, LeaseRecall, on_recall),
    )


def _about_vendors(desk: Desk) -> Subscriptions:
    """Bind what is asked about vendors, their models and keys for them."""

    async def on_models(request: ListModels, _delivery: Delivery) -> ModelPage:
        deps = await handlers.deps_for(desk.deps, request.tenant)
        return deps.menu.listing(request.tenant)

    async def on_vendors(request: ListVendors, _delivery: Delivery) -> VendorPage:
        return await handlers.list_vendors(request, desk)

    async def on_vendor_check(request: CheckVendor, _delivery: Delivery) -> VendorCheck:
        return await handlers.check_vendor(request, desk)

    async def on_credential_put(
        request: PutCredential, _delivery: Delivery
    ) -> CredentialInfo:
        return await handlers.put_credential(request, handlers.offered(desk.deps))

    async def on_credential_remove(
        request: RemoveCredential, _delivery: Delivery
    ) -> Nothing:
        return await handlers.remove_credential(request, desk.deps)

    async def on_credential_list(
        request: ListCredentials, _delivery: Delivery
    ) -> CredentialPage:
        return await handlers.list_credentials(request, desk.deps)

    return (
        Answer(subjects.MODELS, ListModels, on_models),
        Answer(subjects.VENDORS, ListVendors, on_vendors),
        Answer(subjects.VENDOR_CHECK, CheckVendor, on_vendor_check),
        Answer(subjects.CREDENTIAL_PUT, PutCredential, on_credential_put),
        Answer(subjects.CREDENTIAL_REMOVE, RemoveCredential, on_credential_remove),
        Answer(subjects.CREDENTIAL_LIST, ListCredentials, on_credential_list),
    )
