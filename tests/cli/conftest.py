"""A command line whose model is a threshold: quick, and right on the pictures of these tests."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from scipy import ndimage
from tests.cli.helpers import RunSegment, Said
from tests.model.inference.tiny_models import TINY_PYRAMID, make_model

from sam_plugins.cli import main, segment_jobs
from sam_plugins.cli.core import ExemplarChoice, Found, PromptChoice, TextChoice
from sam_plugins.cli.tiles import TileChoice
from sam_plugins.model.large.results import LargeSegmentation
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.passport import Passport


class FakeCore:
    """Everything brighter than half is an object."""

    model_id = "fake-0123456789ab"

    def __init__(self) -> None:
        self.seen: list[npt.NDArray[np.uint8]] = []
        self.asked: list[Any] = []
        self.looked_closer: list[bool] = []

    def automatic(
        self, rgb: npt.NDArray[np.uint8], mode: str, progress: Any, *, looks_closer: bool = True
    ) -> Found:
        self.seen.append(rgb)
        self.asked.append(mode)
        self.looked_closer.append(looks_closer)
        if progress is not None:
            progress(1, 2)
            progress(2, 2)
        labels, count = ndimage.label(rgb[..., 0] > 127)
        return Found(labels.astype(np.int32), np.linspace(0.9, 0.5, count))

    def needs_tiles(self, size_hw: tuple[int, int]) -> bool:
        return max(size_hw) > 1000

    def by_tiles(
        self, source: Any, output: Path, mode: str, choice: TileChoice | None = None, **options: Any
    ) -> LargeSegmentation:
        if choice is not None:
            options |= {"tile": choice.tile, "coarse": choice.coarse}
        self.asked.append((source, mode, options))
        output.mkdir(parents=True)
        return LargeSegmentation(output, output.with_suffix(".csv"), 5)

    def prompted_large(
        self, source: Any, output: Path, prompts: PromptChoice, **options: Any
    ) -> LargeSegmentation:
        return self.by_tiles(source, output, "prompts", prompts=prompts, **options)

    def stack(
        self, source: Any, output: Path, mode: str, axis: str, **options: Any
    ) -> LargeSegmentation:
        return self.by_tiles(source, output, mode, axis=axis, **options)

    def prompted(self, rgb: npt.NDArray[np.uint8], prompts: PromptChoice) -> Found:
        self.asked.append(prompts)
        height, width = rgb.shape[:2]
        for x, y in prompts.points_xy:
            if x >= width or y >= height:
                raise ValueError(f"points_xy must lie within the image, got ({x:g}, {y:g})")
        labels = np.zeros((height, width), np.int32)
        labels[2:5, 3:7] = 1
        return Found(labels, np.array([0.75]))

    def similar(
        self, rgb: npt.NDArray[np.uint8], exemplars: ExemplarChoice, mode: str, progress: Any
    ) -> Found:
        self.asked.append(exemplars)
        if exemplars.points_xy and exemplars.points_xy[0][0] >= rgb.shape[1]:
            raise ValueError("points_xy must lie within the picture; boxes_xyxy too")
        return self.automatic(rgb, mode, progress)

    def described(
        self,
        rgb: npt.NDArray[np.uint8],
        text: TextChoice,
        prompts: PromptChoice,
        mode: str,
        progress: Any,
    ) -> Found:
        self.asked.append((text, prompts))
        found = self.automatic(rgb, mode, progress)
        return replace(found, notes={"phrases": [text.phrases[0]] * len(found.scores)})


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> FakeCore:
    fake = FakeCore()
    monkeypatch.setattr(segment_jobs, "load_core", lambda model, device: fake)
    return fake


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A tiny model on disk."""
    passport = Passport("tiny", TINY_PYRAMID, version="1", licence="CC0")
    network = make_model(TINY_PYRAMID, "tiny").network
    return save_model_file(tmp_path / "tiny.safetensors", network.state_dict(), passport)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, count in (("a", 1), ("b", 3)):
        picture = np.zeros((20, 30), np.uint8)
        for i in range(count):
            picture[2:6, 2 + 8 * i : 7 + 8 * i] = 255
        Image.fromarray(picture).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where results go; not made yet."""
    return tmp_path / "out"


@pytest.fixture
def run_segment(core: FakeCore, out: Path) -> RunSegment:
    """Run ``segment`` with these arguments into ``out``, and return the exit code."""

    def run(*arguments: object) -> int:
        return main(["segment", *map(str, arguments), "-o", str(out)])

    return run


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Check that a pattern was said on standard error since the last time; return all of it."""

    def check(pattern: str) -> str:
        err = capsys.readouterr().err
        assert re.search(pattern, err), err
        return err

    return check
