"""What ``/openapi.json`` says of the compatible endpoints, which FastAPI cannot see."""

from typing import Any, Final

from gateway.entrypoints.dialect import CHAT, EMBEDDINGS, MESSAGES

HEADERS: Final = {
    "x-request-timeout": ("number", "Seconds to wait for the whole answer"),
    "x-de-drop-unsupported": (
        "boolean",
        "Leave out what the answering vendor has no place for, instead of refusing",
    ),
    "x-de-cache-ttl": ("integer", "Take an equal answer up to so old, in s; 0: none"),
    "Idempotency-Key": ("string", "The same key with the same body: the same answer"),
}
ERRORS: Final = {
    "400": "A field is wrong, unknown, or asks what cannot be done; it is named",
    "401": "No valid key",
    "402": "A budget is exhausted; a retry does not help",
    "404": "No such model",
    "413": "The body is too large",
    "422": "The Idempotency-Key was used for another request",
    "429": "Too many requests; see retry-after",
    "502": "The vendor failed",
    "504": "No answer at the deadline",
}
OPENAI_FIELDS: Final = {
    "model": "string",
    "messages": "array",
    "max_completion_tokens": "integer",
    "max_tokens": "integer",
    "stream": "boolean",
    "stream_options": "object",
    "tools": "array",
    "tool_choice": None,
    "parallel_tool_calls": "boolean",
    "response_format": "object",
    "reasoning_effort": "string",
    "verbosity": "string",
    "stop": None,
    "temperature": "number",
    "top_p": "number",
    "seed": "integer",
    "frequency_penalty": "number",
    "presence_penalty": "number",
    "logprobs": "boolean",
    "top_logprobs": "integer",
    "logit_bias": "object",
    "prediction": "object",
    "prompt_cache_key": "string",
    "prompt_cache_options": "object",
    "prompt_cache_retention": "string",
    "safety_identifier": "string",
    "service_tier": "string",
    "store": "boolean",
    "metadata": "object",
    "user": "string",
    "n": "integer",
    "modalities": "array",
}
ANTHROPIC_FIELDS: Final = {
    "model": "string",
    "messages": "array",
    "max_tokens": "integer",
    "system": None,
    "stream": "boolean",
    "tools": "array",
    "tool_choice": "object",
    "thinking": "object",
    "output_config": "object",
    "output_format": "object",
    "stop_sequences": "array",
    "temperature": "number",
    "top_p": "number",
    "top_k": "integer",
    "cache_control": "object",
    "inference_geo": "string",
    "speed": "string",
    "service_tier": "string",
    "metadata": "object",
}
EMBEDDINGS_FIELDS: Final = {
    "model": "string",
    "input": None,
    "encoding_format": "string",
    "dimensions": "integer",
    "user": "string",
}
REQUIRED: Final = {
    EMBEDDINGS: ["model", "input"],
    CHAT: ["model", "messages"],
    MESSAGES: ["model", "messages", "max_tokens"],
}


def door_paths() -> dict[str, Any]:
    """Return the path items."""
    return {
        EMBEDDINGS: {
            "post": _operation(
                EMBEDDINGS,
                "Embeddings, as OpenAI's API and SDKs speak them",
                EMBEDDINGS_FIELDS,
                {"$ref": "#/components/schemas/OpenAIError"},
            )
        },
        CHAT: {
            "post": _operation(
                CHAT,
                "Chat completions, as OpenAI's API and SDKs speak them",
                OPENAI_FIELDS,
                {"$ref": "#/components/schemas/OpenAIError"},
            )
        },
        MESSAGES: {
            "post": _operation(
                MESSAGES,
                "Messages, as Anthropic's API and SDKs speak them",
                ANTHROPIC_FIELDS,
                {"$ref": "#/components/schemas/AnthropicError"},
            )
        },
    }


def door_schemas() -> dict[str, Any]:
    """Return the schemas that the paths refer to."""
    text = {"type": "string"}
    maybe = {"type": ["string", "null"]}
    openai = {"message": text, "type": text, "param": maybe, "code": maybe}
    anthropic = {"type": text, "message": text}
    return {
        "OpenAIError": _object({"error": _object(openai)}),
        "AnthropicError": _object(
            {
                "type": {"const": "error"},
                "error": _object(anthropic),
                "request_id": maybe,
            }
        ),
    }


def _operation(
    path: str, summary: str, fields: dict[str, str | None], error: dict[str, str]
) -> dict[str, Any]:
    properties = {
        name: {} if kind is None else {"type": kind} for name, kind in fields.items()
    }
    schema = {
        "type": "object",
        "properties": properties,
        "required": REQUIRED[path],
        "additionalProperties": False,
    }
    answered: dict[str, Any] = {
        "description": "The answer; with `stream`, server-sent events",
        "content": {"application/json": {}, "text/event-stream": {}},
    }
    refused = {
        status: {"description": why, "content": {"application/json": {"schema": error}}}
        for status, why in ERRORS.items()
    }
    return {
        "tags": ["ai"],
        "summary": summary,
        "operationId": path.strip("/").replace("/", "_"),
        "security": [{"HTTPBearer": []}, {"APIKeyHeader": []}],
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": False,
                "description": why,
                "schema": {"type": kind},
            }
            for name, (kind, why) in HEADERS.items()
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        },
        "responses": {"200": answered, **refused},
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties]}
