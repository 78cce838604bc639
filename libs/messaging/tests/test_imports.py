"""What was imported is out of the collector's way, and the collector runs again."""

import gc

import pytest

from messaging.imports import YOUNG_MAX, kept_for_life


def test_what_was_imported_is_never_searched() -> None:
    """Whatever exists at the end is frozen; garbage made later is still found."""
    before = gc.get_threshold()
    try:
        with kept_for_life():
            kept = [object() for _ in range(3)]
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_threshold()[0] == YOUNG_MAX
        assert not any(each is kept for each in gc.get_objects())
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


def test_an_import_that_fails_leaves_the_collector_running() -> None:
    """A process that goes on without it has its collector."""
    try:
        with pytest.raises(ImportError), kept_for_life():
            raise ImportError
        assert gc.isenabled()
    finally:
        gc.unfreeze()
