"""What people name, and when a cluster pays by itself."""

from __future__ import annotations

import pytest

from sam_plugins.errors import MissingExtraError
from sam_plugins.model.cluster import choice
from sam_plugins.model.cluster.choice import MANY, choose_scheduler, parse_scheduler


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("none", "none"),
        ("local", "local"),
        ("tcp://10.0.0.7:8786", "tcp://10.0.0.7:8786"),
        ("node7:8786", "tcp://node7:8786"),
        ("/shared/scheduler.json", "/shared/scheduler.json"),
    ],
)
def test_names_of_schedulers(text: str, name: str) -> None:
    assert parse_scheduler(text) == name


@pytest.mark.parametrize("text", ["", "locl", "node7", "http://node7:8786", "tcp://node7"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="expected none, local, the address of a Dask scheduler"):
        parse_scheduler(text)


def test_many_tasks_go_to_processes_where_that_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "usable_cores", lambda: 4)
    monkeypatch.setattr(choice, "has_dask", lambda: True)
    assert choose_scheduler(None, MANY, lambda: True) == "local"
    assert choose_scheduler(None, MANY - 1, lambda: True) == "none"
    assert choose_scheduler(None, MANY, lambda: False) == "none"
    assert choose_scheduler("none", 10 * MANY, lambda: True) == "none"
    monkeypatch.setattr(choice, "has_dask", lambda: False)
    assert choose_scheduler(None, MANY, lambda: True) == "none"


def test_one_core_is_used_by_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "usable_cores", lambda: 1)
    assert choose_scheduler(None, MANY, lambda: True) == "none"


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "has_dask", lambda: False)
    with pytest.raises(
        MissingExtraError,
        match=r'"sam-plugins\[scale\]", or in a clone .*, or pass --scheduler none',
    ):
        choice.require_dask()
