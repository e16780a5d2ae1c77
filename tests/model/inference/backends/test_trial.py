"""Back ends are held against PyTorch before they are used, and the fastest is remembered."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sam_plugins.model.inference.backends import trial
from sam_plugins.model.inference.backends.trial import choose, relative_error
from sam_plugins.model.inference.backends.ways import Encoder, Way
from sam_plugins.model.networks.features import ImageFeatures

EXAMPLE = torch.ones(1, 3, 4, 4)


class Clock:
    """Seconds that only pass where something says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Doubling(nn.Module):
    """The reference, which takes two seconds."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def forward(self, images: Tensor) -> ImageFeatures:
        self.clock.now += 2
        return ImageFeatures(2 * images)


def way(clock: Clock, name: str, seconds: float, factor: float = 2.0) -> Way:
    """Something that multiplies by a factor."""

    def build(encoder: nn.Module, example: Tensor, folder: Path) -> Encoder:
        def encode(images: Tensor) -> ImageFeatures:
            clock.now += seconds
            return ImageFeatures(factor * images)

        return encode

    return Way(name, build)


def broken(at_once: bool) -> Way:
    """Something that raises, when it is built or when it is used."""

    def encode(images: Tensor) -> ImageFeatures:
        raise OSError("no such kernel")

    def build(encoder: nn.Module, example: Tensor, folder: Path) -> Encoder:
        if at_once:
            raise ImportError("no such library")
        return encode

    return Way("broken", build)


Chooser = Callable[..., str]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def chosen(clock: Clock, tmp_path: Path) -> Chooser:
    def ask(*ways: Way, compares: bool = True) -> str:
        choice = choose(
            Doubling(clock),
            EXAMPLE,
            ways,
            tmp_path,
            identity="model",
            compares=compares,
            clock=clock,
        )
        assert (choice.encoder is None) == (choice.name == "torch")
        return choice.name

    return ask


def test_the_fastest_wins(chosen: Chooser, clock: Clock) -> None:
    assert chosen(way(clock, "slow", 1.5), way(clock, "fast", 0.5)) == "fast"


def test_nothing_faster_than_pytorch(chosen: Chooser, clock: Clock) -> None:
    assert chosen(way(clock, "slow", 3)) == "torch"
    assert chosen(way(clock, "slow", 3), compares=False) == "slow"


@pytest.mark.parametrize("factor", [2.001, float("nan")])
def test_a_wrong_answer_is_not_used(
    chosen: Chooser, clock: Clock, caplog: pytest.LogCaptureFixture, factor: float
) -> None:
    assert chosen(way(clock, "wrong", 0.1, factor), compares=False) == "torch"
    assert "the back end wrong is not used: its answer is" in caplog.text


@pytest.mark.parametrize(("at_once", "reason"), [(True, "library"), (False, "kernel")])
def test_a_broken_one_is_not_used(
    chosen: Chooser, caplog: pytest.LogCaptureFixture, at_once: bool, reason: str
) -> None:
    assert chosen(broken(at_once)) == "torch"
    assert f"the back end broken cannot be used: no such {reason}" in caplog.text


def test_what_is_not_installed_is_left_out(chosen: Chooser) -> None:
    assert chosen(Way("absent", broken(at_once=True).build, ("no_such_package",))) == "torch"


def test_a_choice_is_remembered(chosen: Chooser, clock: Clock, tmp_path: Path) -> None:
    ways = way(clock, "slow", 1), way(clock, "fast", 0.5)
    chosen(*ways)
    before = clock.now
    assert chosen(*ways) == "fast"
    assert clock.now == before  # nothing was tried again
    chosen(*ways[:1])
    assert clock.now > before  # another question
    assert len(json.loads((tmp_path / "choices.json").read_text())) == 2
    (tmp_path / "choices.json").write_text("{")
    assert chosen(*ways) == "fast"


def test_a_remembered_one_that_no_longer_works_is_replaced(chosen: Chooser, clock: Clock) -> None:
    assert chosen(way(clock, "first", 0.5), way(clock, "second", 1)) == "first"
    failing = Way("first", broken(at_once=True).build)
    assert chosen(failing, way(clock, "second", 1)) == "second"


def test_the_error_is_that_of_the_worst_tensor() -> None:
    one = ImageFeatures(torch.ones(4), (torch.ones(4),))
    other = ImageFeatures(torch.ones(4), (torch.full((4,), 1.5),))
    assert relative_error(other, one) == pytest.approx(0.5)


@pytest.mark.parametrize("changed", ["package", "software", "torch"])
def test_another_version_is_held_against_pytorch_again(
    chosen: Chooser,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    changed: str,
) -> None:
    def of_numpy(factor: float) -> Way:
        return Way("fast", way(clock, "fast", 0.5, factor).build, ("numpy",))

    assert chosen(of_numpy(2.0)) == "fast"
    if changed == "package":
        monkeypatch.setattr(trial, "_version", lambda package: "another")
    elif changed == "software":
        monkeypatch.setattr(trial, "__version__", "another")
    else:
        monkeypatch.setattr(trial.torch, "__version__", "another")
    assert chosen(of_numpy(3.0)) == "torch"
    assert "the back end fast is not used: its answer is" in caplog.text


def test_another_version_exports_again(clock: Clock, tmp_path: Path, monkeypatch: Any) -> None:
    folders: list[Path] = []

    def build(encoder: nn.Module, example: Tensor, folder: Path) -> Encoder:
        folders.append(folder)
        return way(clock, "fast", 0.5).build(encoder, example, folder)

    for version in ("one", "one", "two"):
        monkeypatch.setattr(trial, "__version__", version)
        choose(Doubling(clock), EXAMPLE, [Way("fast", build)], tmp_path, identity="m", clock=clock)
    assert folders[0] == folders[1] != folders[2]


def test_the_log_says_what_is_not_installed(
    chosen: Chooser, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    absent = Way("absent", way(clock, "absent", 1).build, ("no_such_package",))
    for _ in range(2):  # also where the choice is remembered
        caplog.clear()
        assert chosen(absent, way(clock, "fast", 0.5)) == "fast"
        assert "not installed and not tried: absent; install the extra fast" in caplog.text


def test_versions_of_packages_whose_distribution_has_another_name() -> None:
    assert trial._version("PIL") == metadata.version("pillow")
    assert trial._version("no_such_package") == "unknown"
