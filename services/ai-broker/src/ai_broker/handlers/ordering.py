"""Who can answer, and who is preferred: by the alias's policy and what is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ai_broker.domain import embedding, estimation, limits
from ai_broker.domain.embedding import EmbeddingQuestion
from ai_broker.domain.fitting import misfit
from ai_broker.domain.guard.policy import Mode
from ai_broker.domain.guard.request import Guarded, Unmaskable, guard
from ai_broker.domain.policy import Alias, Policy, Standing, ranked
from ai_broker.handlers.call import Choice, Route
from ai_broker.handlers.desk import Desk
from ai_broker.handlers.dispatch import worst_cost
from ai_broker.ports import Deps
from contracts.completions import CompletionRequest
from contracts.problems import Code
from faults import PermanentFault

GUARDED_HERE_MAX: Final = 16_384
"""Characters that are masked between two turns of the loop: at most some 20 ms."""


@dataclass(frozen=True)
class Unroutable:
    """Nobody here can answer the request."""

    code: Code
    detail: str


async def route_of(request: CompletionRequest, desk: Desk) -> Route | Unroutable:
    """Return who can answer, each with the request in its own form, masked."""
    deps = desk.deps
    refused = limits.refusal(request)
    if refused is not None:
        return Unroutable(refused.code, refused.detail)
    guarded = await _guarded(request, deps)
    if isinstance(guarded, Unmaskable):
        return Unroutable(Code.INVALID, guarded.detail)
    candidates = deps.menu.candidates(request.model, request.tenant)
    if isinstance(request, EmbeddingQuestion):
        candidates = embedding.one_space(candidates)
    if not candidates:
        known = ", ".join(each.id for each in deps.menu.listing(request.tenant).models)
        detail = f"no model {request.model!r} here: ask for one of {known}"
        return Unroutable(Code.MODEL_UNKNOWN, detail)
    choices: list[Choice] = []
    refusals: list[str] = []
    tokens = estimation.input_tokens(request)
    for each in candidates:
        why = misfit(request, each, tokens)
        if why is not None:
            refusals.append(why)
            continue
        try:
            prepared = deps.vendors[each.vendor].prepare(guarded.request, each)
        except PermanentFault as fault:
            refusals.append(fault.detail)
        else:
            masked = guarded.restorations
            choices.append(Choice(each, guarded.request, prepared, masked))
    if not choices:
        return Unroutable(Code.INVALID, "; ".join(dict.fromkeys(refusals)))
    return _ordered(request, choices, tokens, desk)


async def _guarded(request: CompletionRequest, deps: Deps) -> Guarded | Unmaskable:
    """Mask here what takes milliseconds, and aside what would hold up the others."""
    policy = deps.guards.policy(request.tenant)
    if policy.mode is Mode.OFF or limits.characters(request) <= GUARDED_HERE_MAX:
        return guard(request, policy)
    return await deps.aside(lambda: guard(request, policy))


def _ordered(
    request: CompletionRequest, choices: Sequence[Choice], tokens: int, desk: Desk
) -> Route:
    """Return the route, in the order of the alias's policy."""
    alias = desk.deps.menu.alias(request.model, request.tenant)
    preferred = list(choices)
    if alias is not None and len(choices) > 1:
        preferred = _by_policy(request, choices, alias, desk)
    hedge = None if alias is None else alias.hedge
    return Route(tuple(preferred), tokens, hedge)


def _by_policy(
    request: CompletionRequest, choices: Sequence[Choice], alias: Alias, desk: Desk
) -> list[Choice]:
    deps, now = desk.deps, desk.deps.clock.now()
    weights = {each.model: each.weight for each in alias.models}
    wants_cost = alias.policy is Policy.CHEAPEST
    standings = [
        Standing(
            name=each.candidate.name,
            weight=weights.get(each.candidate.name, 1.0),
            cost=worst_cost(request, each.candidate, deps, now) if wants_cost else None,
            load=desk.board.load(each.candidate, deltas=request.deltas),
        )
        for each in choices
    ]
    draws = [deps.ids.uniform() for _ in choices]
    places = ranked(alias.policy, standings, _sticks_to(request), draws)
    return [choices[place] for place in places]


def _sticks_to(request: CompletionRequest) -> str:
    """Return whom ``sticky`` sticks to: the end user, else the task, else nobody."""
    whom = request.user or request.task_id or request.completion_id
    return f"{request.tenant}\0{whom}"
