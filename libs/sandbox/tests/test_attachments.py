"""Images and documents are checked as the vendors check them, and counted."""

import base64
from typing import Any, Final

import pytest
from sandbox_line import Line

IMAGE: Final = base64.b64encode(b"\x89PNG\r\n\x1a\n, not seen").decode()
PAGE: Final = b"<< /Type /Page /Parent 1 0 R >>\n"
PDF: Final = base64.b64encode(
    b"%PDF-1.7\n<< /Type /Pages /Count 3 >>\n" + PAGE * 3 + b"%%EOF"
).decode()
LONG: Final = base64.b64encode(b"%PDF-1.7\n" + PAGE * 101).decode()
LARGE: Final = base64.b64encode(bytes(5 * 1024 * 1024 + 3)).decode()
TEXT: Final = base64.b64encode(b"Invoice 4711").decode()


def picture(kind: str = "base64", **fields: str) -> dict[str, Any]:
    """Make Anthropic's image block."""
    known = {"type": kind}
    if kind == "base64":
        known |= {"media_type": "image/png", "data": IMAGE}
    return {"type": "image", "source": known | fields}


def document(kind: str, **fields: Any) -> dict[str, Any]:
    """Make Anthropic's document block."""
    known: dict[str, Any] = {"type": kind}
    if kind == "base64":
        known |= {"media_type": "application/pdf", "data": PDF}
    elif kind == "text":
        known |= {"media_type": "text/plain", "data": "abcdefgh"}
    return {"type": "document", "source": known | fields}


def image_url(url: str, **more: str) -> dict[str, Any]:
    """Make OpenAI's image part."""
    return {"type": "image_url", "image_url": {"url": url, **more}}


def file(**fields: str) -> dict[str, Any]:
    """Make OpenAI's file part."""
    return {"type": "file", "file": fields}


def data_url(media_type: str, data: str) -> str:
    """Make a data URL."""
    return f"data:{media_type};base64,{data}"


WEB: Final = "https://example.org/a.png"
FROM_ANTHROPIC: Final[list[tuple[dict[str, Any], int]]] = [
    (picture(), 85),
    (picture("url", url=WEB), 85),
    (document("base64"), 4500),
    (document("url", url=WEB), 1500),
    (document("text"), 2),
    (document("content", content=[{"type": "text", "text": "abcdefgh"}]), 2),
]
FROM_OPENAI: Final[list[tuple[dict[str, Any], int]]] = [
    (image_url(data_url("image/png", IMAGE)), 85),
    (image_url(WEB, detail="high"), 85),
    (file(filename="a.pdf", file_data=data_url("application/pdf", PDF)), 4500),
    (file(filename="a.txt", file_data=data_url("text/plain", TEXT)), 3),
]
GOOD: Final = [
    *(("anthropic", *each) for each in FROM_ANTHROPIC),
    *(("openai", *each) for each in FROM_OPENAI),
]
BAD_FOR_ANTHROPIC: Final[list[tuple[dict[str, Any], str]]] = [
    (picture(media_type="image/bmp"), "should be one of"),
    (picture(data="?"), "Invalid base64"),
    (picture(data=""), "empty"),
    (picture(data=LARGE), "exceeds 5 MB maximum"),
    (picture("url", url="file:///etc/hosts"), "Invalid URL"),
    (picture("file", file_id="file_1"), "keeps no files"),
    (document("base64", data=IMAGE), "not valid"),
    (document("base64", data=LONG), "maximum of 100 PDF pages"),
    (document("base64", media_type="text/html"), "should be 'application/pdf'"),
    (document("text", media_type="text/html"), "should be 'text/plain'"),
    (document("file", file_id="file_1"), "keeps no files"),
]
BAD_FOR_OPENAI: Final[list[tuple[dict[str, Any], str]]] = [
    (image_url("a.png"), "Invalid URL"),
    (image_url(WEB, detail="best"), "detail"),
    (image_url(data_url("image/bmp", IMAGE)), "unsupported image"),
    (image_url("data:image/png;base64,?"), "Invalid base64"),
    (file(file_id="file-1"), "keeps no files"),
    (file(file_data=data_url("application/zip", IMAGE)), "Invalid file data"),
    (file(file_data=data_url("application/pdf", IMAGE)), "not valid"),
    ({"type": "input_audio", "input_audio": {}}, "Invalid content part"),
]
BAD: Final = [
    *(("anthropic", *each) for each in BAD_FOR_ANTHROPIC),
    *(("openai", *each) for each in BAD_FOR_OPENAI),
]


def asked(block: dict[str, Any]) -> list[dict[str, Any]]:
    """Ask about an attachment."""
    parts = [block, {"type": "text", "text": "hi"}]
    return [{"role": "user", "content": parts}]


@pytest.mark.parametrize(("protocol", "block", "tokens"), GOOD)
async def test_an_attachment_is_counted(
    line: Line, protocol: str, block: dict[str, Any], tokens: int
) -> None:
    """It adds what the tokenizer says; the bill, the ledger and the count agree."""
    bare = await line.call(protocol, text="hi", stream=False)
    heard = await line.call(protocol, stream=False, messages=asked(block))
    assert heard.status == 200, heard.body
    name = "prompt_tokens" if protocol == "openai" else "input_tokens"
    used, base = heard.json["usage"][name], bare.json["usage"][name]
    assert tokens <= used - base <= tokens + 1
    row = (await line.rows(2))[-1]
    assert row["input_tokens"] == used


@pytest.mark.parametrize(("protocol", "block", "words"), BAD)
async def test_a_bad_attachment_is_refused(
    line: Line, protocol: str, block: dict[str, Any], words: str
) -> None:
    """The error says what is wrong with it, and nothing is billed."""
    heard = await line.call(protocol, stream=False, messages=asked(block))
    assert heard.status == 400
    assert words in heard.json["error"]["message"]
    (row,) = await line.rows()
    assert row["input_tokens"] == 0


@pytest.mark.parametrize("protocol", ["openai", "anthropic"])
async def test_a_request_beyond_the_size_limit_is_too_large(
    line: Line, protocol: str
) -> None:
    """The vendor's 413, whatever is in it."""
    heard = await line.call(protocol, text="a" * (33 * 1024 * 1024), stream=False)
    assert heard.status == 413
    kinds = ("request_too_large", "invalid_request_error")
    assert heard.json["error"]["type"] in kinds


async def test_text_of_a_document_is_read(line: Line, letter: str) -> None:
    """What stands in a text document is answered from, a PDF's bytes are not."""
    block = document("text", data=letter)
    question = {"type": "text", "text": "What is the invoice number?"}
    heard = await line.call(
        "anthropic",
        stream=False,
        messages=[{"role": "user", "content": [block, question]}],
        output_config={
            "format": {
                "type": "json_schema",
                "schema": {
                    "type": "object",
                    "properties": {"invoice_number": {"type": "string"}},
                    "required": ["invoice_number"],
                },
            }
        },
    )
    assert heard.json["content"][0]["text"] == '{"invoice_number":"4711"}'
