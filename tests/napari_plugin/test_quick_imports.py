"""Libraries imported while Python searches for no garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from sam_plugins.napari_plugin.quick_imports import without_collections


@pytest.fixture(autouse=True)
def _searching() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


def test_no_garbage_is_searched_for_within_the_block() -> None:
    searches: list[int] = []

    def note(phase: str, details: dict[str, int]) -> None:
        if phase == "start":
            searches.append(details["generation"])

    gc.callbacks.append(note)
    try:
        with without_collections():
            assert not gc.isenabled()
            kept = [[] for _ in range(20_000)]  # type: ignore[var-annotated]
    finally:
        gc.callbacks.remove(note)
    assert gc.isenabled()
    assert searches == []
    old = gc.get_objects(generation=2)
    assert any(one is kept for one in old)  # not looked at again at once
    assert gc.get_freeze_count() == 0


def test_whoever_searches_for_none_is_left_alone() -> None:
    gc.disable()
    with without_collections():
        pass
    assert not gc.isenabled()


def test_it_searches_again_after_an_error() -> None:
    with pytest.raises(ImportError, match="no_such_library"), without_collections():
        __import__("no_such_library")
    assert gc.isenabled()
