"""The rate limits as operators write them, and which of them a call is held to."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Self, assert_never

from pydantic import Field, model_validator

from ai_broker.domain.quota import Bound
from contracts.budgets import ScopeKind
from contracts.completions import CompletionRequest
from contracts.ids import TenantId
from contracts.message import Document
from contracts.rates import Measure

RULES_MAX: Final = 10_000

Whose = tuple[TenantId | None, str | None]
"""A tenant and an id of its; None stands for each."""


class RateRule(Document):
    """Limits on one scope, or on each of its kind."""

    scope: ScopeKind
    """``tenant``, ``team``, ``employee``, ``task``, ``user`` or ``api-key``."""
    tenant: TenantId | None = None
    """Only this tenant's; every tenant's when absent."""
    id: str | None = Field(default=None, min_length=1, max_length=256)
    """Only this one of the tenant's; each of the kind has its own when absent."""
    requests_per_minute: int | None = Field(default=None, ge=1, le=1_000_000)
    """How many completions may be asked for."""
    tokens_per_minute: int | None = Field(default=None, ge=1, le=1_000_000_000)
    """How many tokens they may use, input and output."""
    concurrent: int | None = Field(default=None, ge=1, le=100_000)
    """How many may be answered at once."""
    unlimited: bool = False
    """Lift what a less particular rule says."""

    @property
    def whose(self) -> Whose:
        """Whom it is for, among those of its kind."""
        return self.tenant, self.id

    @property
    def limits(self) -> tuple[tuple[Measure, int], ...]:
        """What is limited, and to how much."""
        found = (
            (Measure.REQUESTS, self.requests_per_minute),
            (Measure.TOKENS, self.tokens_per_minute),
            (Measure.CONCURRENT, self.concurrent),
        )
        return tuple((measure, limit) for measure, limit in found if limit is not None)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.id is not None and self.tenant is None:
            message = "id needs the tenant that it belongs to"
            raise ValueError(message)
        if self.scope is ScopeKind.TENANT and self.id is not None:
            message = "a tenant's rule has no id: its name is the field tenant"
            raise ValueError(message)
        if self.unlimited == bool(self.limits):
            message = (
                "needs requests_per_minute, tokens_per_minute or concurrent, or else "
                "unlimited: true"
            )
            raise ValueError(message)
        return self


class RateDocument(Document):
    """The file: of the rules that fit a scope the most particular one counts alone."""

    rules: tuple[RateRule, ...] = Field(default=(), max_length=RULES_MAX)
    """In any order; no two for the same."""

    @model_validator(mode="after")
    def _has_no_two_for_the_same(self) -> Self:
        counts = Counter((each.scope, *each.whose) for each in self.rules)
        for (scope, tenant, of), count in counts.items():
            if count > 1:
                whose = " ".join(filter(None, (scope, tenant, of)))
                message = f"{count} rules are for {whose}: keep one of them"
                raise ValueError(message)
        return self


class RateBook:
    """
    Finds the limits of a call; one without any costs a comparison.

    Args:
        rules: In any order.
    """

    def __init__(self, rules: Iterable[RateRule] = ()) -> None:
        by_kind: dict[ScopeKind, dict[Whose, RateRule]] = {}
        for rule in rules:
            by_kind.setdefault(rule.scope, {})[rule.whose] = rule
        self._by_kind: Mapping[ScopeKind, Mapping[Whose, RateRule]] = by_kind

    def bounds(
        self, request: CompletionRequest, estimate: Callable[[], int]
    ) -> tuple[Bound, ...]:
        """
        Return the limits that a call is held to.

        Args:
            request: The call.
            estimate: Tells how many tokens it may use; asked where tokens are limited.
        """
        if not self._by_kind:
            return ()
        tokens: int | None = None
        found: list[Bound] = []
        for kind, rules in self._by_kind.items():
            of = _id_of(request, kind)
            rule = None if of is None else _most_particular(rules, request.tenant, of)
            if rule is None or of is None:
                continue
            for measure, limit in rule.limits:
                cost = 1
                if measure is Measure.TOKENS:
                    cost = tokens = estimate() if tokens is None else tokens
                found.append(Bound(request.tenant, kind, of, measure, limit, cost))
        return tuple(found)


def _most_particular(
    rules: Mapping[Whose, RateRule], tenant: str, of: str
) -> RateRule | None:
    return (
        rules.get((tenant, of)) or rules.get((tenant, None)) or rules.get((None, None))
    )


def _id_of(request: CompletionRequest, kind: ScopeKind) -> str | None:
    match kind:
        case ScopeKind.TENANT:
            return request.tenant
        case ScopeKind.TEAM:
            return request.team
        case ScopeKind.EMPLOYEE:
            return request.employee
        case ScopeKind.TASK:
            return request.task_id
        case ScopeKind.USER:
            return request.user
        case ScopeKind.API_KEY:
            return request.api_key_id
        case _:
            assert_never(kind)
