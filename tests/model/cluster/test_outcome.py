"""One process: outcomes in order, values made once, errors that travel."""

from __future__ import annotations

import pickle
import threading
from itertools import count

import pytest
from tests.model.cluster.functions import (
    StubbornError,
    doubled,
    process,
    thirteen_fails,
)

from sam_plugins.errors import LabelStudioError, UnreadableImageError
from sam_plugins.model.cluster.outcome import Kept, SerialRunner, portable


def test_outcomes_come_in_order_with_their_items() -> None:
    outcomes = list(SerialRunner().run(doubled, [5, 6]))
    assert [(one.index, one.item, one.result()) for one in outcomes] == [(0, 5, 10), (1, 6, 12)]


def test_items_are_read_one_at_a_time() -> None:
    outcomes = SerialRunner().run(doubled, count())
    assert next(outcomes).value == 0
    assert next(outcomes).value == 2


def test_an_error_is_an_outcome_and_the_rest_go_on() -> None:
    outcomes = list(SerialRunner().run(thirteen_fails, [12, 13, 14]))
    assert [one.value for one in outcomes] == [12, None, 14]
    with pytest.raises(UnreadableImageError, match="cannot read 13"):
        outcomes[1].result()


def test_a_call_runs_here() -> None:
    import os

    assert SerialRunner().call(process) == os.getpid()


def test_kept_values_are_made_once_by_many_threads() -> None:
    kept, made = Kept(), []

    def make() -> int:
        made.append(threading.get_ident())
        return len(made)

    threads = [threading.Thread(target=lambda: kept.get("model", make)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_the_least_recently_used_value_goes() -> None:
    kept = Kept(most=2)
    for key in ("a", "b", "a", "c"):
        kept.get(key, key.upper)
    assert kept.get("a", lambda: "made again") == "A"
    assert kept.get("b", lambda: "made again") == "made again"


def test_an_error_keeps_its_kind_and_its_traceback_on_the_way() -> None:
    def fail() -> None:
        raise LabelStudioError("refused", 403)

    try:
        fail()
    except LabelStudioError as error:
        arrived = pickle.loads(pickle.dumps(portable(error)))
    assert isinstance(arrived, LabelStudioError)
    assert arrived.status == 403
    assert "in fail" in arrived.__notes__[0]


def test_an_error_that_cannot_be_built_again_arrives_as_its_words() -> None:
    arrived = pickle.loads(pickle.dumps(portable(StubbornError("this", "that"))))
    # As itself where a library of the cluster taught pickle to build it.
    assert isinstance(arrived, RuntimeError | StubbornError)
    assert str(arrived).endswith("this and that")


def test_what_goes_is_closed() -> None:
    closed = []

    class File:
        def close(self) -> None:
            closed.append(self)

    kept = Kept(most=1)
    first = kept.get("first", File)
    kept.get("second", str)
    assert closed == [first]
    second = kept.get("third", File)
    kept.close()
    assert closed == [first, second]
