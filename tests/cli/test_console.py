"""Progress for who reads a log: seldom a line, and one that tells."""

from __future__ import annotations

import pytest

from sam_plugins.cli.console import LoggedProgress, collected, step_progress, with_progress


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    out, err = capsys.readouterr()
    assert out == ""
    return [line.removeprefix("sam-plugins: ") for line in err.splitlines()]


def test_a_line_every_half_minute_with_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    tell = LoggedProgress("slide", "tiles", 1 / 2, clock)
    for done in range(120):
        tell(done, 240)
        clock.now += 5
    said = lines(capsys)
    assert said[0] == "slide: 6 of 120 tiles, about 10 min left"
    assert len(said) == 19
    clock.now += 60
    tell(130, 240)
    assert lines(capsys) == ["slide: 120 of 120 tiles, putting them together"]
    clock.now += 60
    tell(240, 240)
    assert lines(capsys) == []  # the result says it


def test_what_an_earlier_run_had_done_does_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    tell = LoggedProgress("slide", "tiles", 1.0, clock)
    for done in range(101):
        tell(done, 200)
        clock.now += 0.001
    for done in (101, 102, 103):
        clock.now += 20
        tell(done, 200)
    assert lines(capsys) == ["slide: 102 of 200 tiles, about 33 min left"]


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    tell = LoggedProgress("slide", "tiles", clock=clock)
    for done in range(20):
        tell(done, 20)
        clock.now += 1
    assert lines(capsys) == []


def test_pictures_are_counted_in_a_log_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(
        "sam_plugins.cli.console.LoggedProgress.__init__.__defaults__", (1.0, clock)
    )
    for _ in with_progress(range(9), "picture"):
        clock.now += 20
    assert lines(capsys)[0] == "2 of 9 pictures, about 2 min left"


def test_a_worker_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with collected() as said, step_progress("slide") as progress:
        assert progress is None
    assert said == []
