"""What may be known of the vendors: whether, whose key, how they fare; no secret."""

from ai_broker.domain.breaker import State
from ai_broker.domain.catalogue import Catalogue, Menu, keyed, menu_of, usable
from ai_broker.domain.showing import Glimpse, vendor_page
from contracts.vendors import BreakerState, KeySource

ENVIRONMENT = {"A_KEY": "ka-secret", "D_URL": "http://d.example"}
CATALOGUE = Catalogue.model_validate(
    {
        "aliases": {},
        "vendors": [
            {
                "name": "d",
                "protocol": "openai",
                "base_url_env": "D_URL",
                "key_envs": ["D_KEY"],
                "other_models": True,
            },
            {
                "name": "a",
                "protocol": "anthropic",
                "base_url": "https://a.example",
                "key_envs": ["A_KEY"],
                "models": [
                    {"name": "m-1", "capabilities": ["tools", "images"]},
                    {"name": "m-2", "context_tokens": 9, "output_tokens_max": 3},
                ],
            },
            {
                "name": "b",
                "protocol": "openai",
                "base_url": "https://b.example",
                "key_envs": ["B_KEY", "B_TOKEN"],
            },
            {"name": "c", "protocol": "openai", "base_url_env": "C_URL"},
            {"name": "s", "protocol": "openai", "base_url": "{sandbox}/v1"},
        ],
    }
)


def menu() -> Menu:
    """Give what can be called in that environment."""
    names = [each.entry.name for each in usable(CATALOGUE, ENVIRONMENT, None)]
    return menu_of(CATALOGUE, names, keyed(CATALOGUE, ENVIRONMENT))


def test_each_vendor_is_usable_or_says_what_it_lacks() -> None:
    """A key, an address, the sandbox; one without a key may be one's own server."""
    page = vendor_page(menu(), {}, "broker_1")
    told = [(each.name, each.usable, each.key, each.why_not) for each in page.vendors]
    assert told == [
        ("a", True, KeySource.PLATFORM, None),
        ("b", False, KeySource.NONE, "no key for it is set here: B_KEY or B_TOKEN"),
        ("c", False, KeySource.NONE, "its address is not set here: C_URL"),
        ("d", True, KeySource.NONE, None),
        ("s", False, KeySource.NONE, "the sandbox vendor does not run here"),
    ]
    assert page.vendors[3].other_models
    assert page.instance == "broker_1"


def test_a_key_of_ones_own_makes_a_vendor_usable() -> None:
    """Its owner sees it as usable, and as called with that key."""
    found = menu()
    entries = tuple(each for each in found.unusable if each.name == "b")
    page = vendor_page(found.with_own(entries), {}, "broker_1")
    b = next(each for each in page.vendors if each.name == "b")
    assert (b.usable, b.key, b.why_not) == (True, KeySource.OWN, None)


def test_models_are_told_with_how_they_fare() -> None:
    """What is known of a model, and what this replica has seen of it."""
    seen = {"a/m-1": Glimpse(State.HALF_OPEN, 0.25)}
    first, second = vendor_page(menu(), seen, "broker_1").vendors[0].models
    assert first.capabilities == ("images", "tools")
    assert (first.breaker, first.first_token_s) == (BreakerState.HALF_OPEN, 0.25)
    assert second.capabilities is None
    assert (second.context_tokens, second.output_tokens_max) == (9, 3)
    assert (second.breaker, second.first_token_s) == (None, None)


def test_neither_keys_nor_addresses_are_shown() -> None:
    """An address may have a key in it, or name a host that is nobody's business."""
    shown = vendor_page(menu(), {}, "broker_1").model_dump_json()
    assert "secret" not in shown
    assert "example" not in shown
