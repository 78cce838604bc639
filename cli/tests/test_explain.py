import httpx

from cli.client import explain


def test_every_wrong_field_gets_a_line() -> None:
    """A person who mistyped two fields learns of both at once."""
    problem = {
        "code": "invalid",
        "detail": "the document has fields to correct",
        "errors": [
            {"pointer": "/tools/1", "detail": "there is no tool 'calculater'"},
            {"pointer": "", "detail": "is not a document"},
        ],
    }
    assert explain(httpx.Response(400, json=problem)).splitlines() == [
        "invalid: the document has fields to correct",
        "  /tools/1: there is no tool 'calculater'",
        "  /: is not a document",
    ]


def test_an_answer_that_is_no_problem_is_told_as_it_is() -> None:
    """A proxy's page is better than nothing."""
    assert explain(httpx.Response(502, text="Bad Gateway")) == "502: Bad Gateway"
