"""
Every text of a request that leaves to a vendor, masked.

What stays as it is, and why: names of tools and of the output schema, ids of calls and
signed reasoning must come back unchanged; images and documents in binary form cannot
be masked, so a policy lets them pass or refuses them. The end user's id is left out
when it is personal data: one placeholder for all would make them one user in the
vendor's eyes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, assert_never

from ai_broker.domain.guard.detectors import detectors_of
from ai_broker.domain.guard.policy import Binaries, GuardPolicy, Mode
from ai_broker.domain.guard.restoring import Restorations
from ai_broker.domain.guard.vault import Vault
from contracts.completions import (
    ChatTurn,
    CompletionRequest,
    DocumentPart,
    ImagePart,
    OutputSchema,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    ToolSpec,
)
from contracts.message import JsonObject

IDENTITIES: Final = frozenset({"safety_identifier"})
"""Vendors' other names for the end user's id."""
_JSON_TYPES: Final = frozenset({"application/json", "application/ld+json"})
_TEXT_TYPES: Final = _JSON_TYPES | {
    "application/xml",
    "application/yaml",
    "application/x-yaml",
}


@dataclass(frozen=True)
class Guarded:
    """A request as vendors may see it."""

    request: CompletionRequest
    restorations: Restorations
    """What to put back into the answer."""


@dataclass(frozen=True)
class Unmaskable:
    """A part that the tenant's policy does not let out."""

    detail: str


def guard(request: CompletionRequest, policy: GuardPolicy) -> Guarded | Unmaskable:
    """Mask what the policy wants masked, or refuse what cannot be."""
    if policy.mode is Mode.OFF:
        return Guarded(request, Restorations.none())
    if policy.binaries is Binaries.REFUSE:
        for where in _binaries(request):
            return Unmaskable(
                f"{where}: personal data in it could not be masked, so it may not go "
                "to a vendor: send its text, or set `binaries: pass` in the guard file"
            )
    detectors = detectors_of(policy)
    vault = Vault(detectors)
    masked = _masked(request, vault)
    if policy.mode is Mode.MASK:
        return Guarded(masked, Restorations.none())
    if vault.foreign_series:
        free = next(n for n in range(1, 10**9) if n not in vault.foreign_series)
        vault = Vault(detectors, free)
        masked = _masked(request, vault)
    return Guarded(masked, Restorations(vault.values))


def _masked(request: CompletionRequest, vault: Vault) -> CompletionRequest:
    user = request.user
    return request.model_copy(
        update={
            "turns": tuple(_turn(each, vault) for each in request.turns),
            "tools": tuple(_tool(each, vault) for each in request.tools),
            "output_schema": _schema(request.output_schema, vault),
            "stop": tuple(vault.mask(each) for each in request.stop),
            "metadata": {
                vault.mask(name): vault.mask(value)
                for name, value in request.metadata.items()
            },
            "extra": _extra(request.extra, vault),
            "user": user if user is None or vault.mask(user) == user else None,
        }
    )


def _turn(turn: ChatTurn, vault: Vault) -> ChatTurn:
    parts = tuple(_part(each, vault) for each in turn.parts)
    name = turn.name
    if name is not None and (masked := vault.mask(name)) != name:
        # Vendors take no angle brackets in a name.
        name = masked.replace("<", "").replace(">", "")
    return turn.model_copy(update={"parts": parts, "name": name})


def _part(part: Part, vault: Vault) -> Part:
    match part:
        case TextPart() | RefusalPart():
            return part.model_copy(update={"text": vault.mask(part.text)})
        case ToolCallPart():
            arguments = vault.mask_json_text(part.arguments)
            return part.model_copy(update={"arguments": arguments})
        case ToolResultPart():
            content = tuple(_part(each, vault) for each in part.content)
            return part.model_copy(update={"content": content})
        case ReasoningPart():
            if part.signature is not None or part.redacted is not None:
                return part
            # Reasoning is never restored, so its placeholders are our own.
            text = vault.mask(part.text, ours=True)
            return part.model_copy(update={"text": text})
        case DocumentPart():
            return _document(part, vault)
        case ImagePart():
            return part
        case _:
            assert_never(part)


def _document(part: DocumentPart, vault: Vault) -> DocumentPart:
    name = None if part.name is None else vault.mask(part.name)
    data, text = part.data, _text_of(part)
    if text is not None:
        is_json = _media_type(part) in _JSON_TYPES
        masked = vault.mask_json_text(text) if is_json else vault.mask(text)
        data = masked.encode()
    return part.model_copy(update={"name": name, "data": data})


def _tool(tool: ToolSpec, vault: Vault) -> ToolSpec:
    return tool.model_copy(
        update={
            "description": vault.mask(tool.description),
            "parameters": vault.mask_json(tool.parameters),
        }
    )


def _schema(schema: OutputSchema | None, vault: Vault) -> OutputSchema | None:
    if schema is None:
        return None
    return schema.model_copy(
        update={"json_schema": vault.mask_json(schema.json_schema)}
    )


def _extra(extra: JsonObject, vault: Vault) -> JsonObject:
    masked = {name: vault.mask_json(value) for name, value in extra.items()}
    return {
        name: value
        for name, value in masked.items()
        if name not in IDENTITIES or value == extra[name]
    }


def _binaries(request: CompletionRequest) -> Iterator[str]:
    for at, turn in enumerate(request.turns):
        for place, part in enumerate(turn.parts):
            where = f"turns[{at}].parts[{place}]"
            if isinstance(part, ToolResultPart):
                for inner, each in enumerate(part.content):
                    if _is_binary(each):
                        yield f"{where}.content[{inner}]"
            elif _is_binary(part):
                yield where


def _is_binary(part: Part) -> bool:
    return isinstance(part, ImagePart) or (
        isinstance(part, DocumentPart) and _text_of(part) is None
    )


def _text_of(part: DocumentPart) -> str | None:
    """Return a document's text; None when it is binary or only a URL."""
    media_type = _media_type(part)
    if part.data is None or not (
        media_type.startswith("text/") or media_type in _TEXT_TYPES
    ):
        return None
    try:
        return part.data.decode()
    except UnicodeDecodeError:
        return None


def _media_type(part: DocumentPart) -> str:
    return part.media_type.partition(";")[0].strip().lower()
