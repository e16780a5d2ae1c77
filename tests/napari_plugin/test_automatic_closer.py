"""**Automatic** looks at small objects in windows and large ones from farther, as the library."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from skimage.transform import resize
from tests.napari_plugin.helpers import row_of_coins

from sam_plugins.model.inference import predict
from sam_plugins.model.inference.cache import EmbeddingCache
from sam_plugins.model.inference.loading import Model, load_model
from sam_plugins.model.inference.reduction import ReducedImageWarning
from sam_plugins.model.io.labelled import list_manifest_files
from sam_plugins.model.large.whole import segment
from sam_plugins.napari_plugin.automatic import Ground, Painted, choose_again, find_all
from sam_plugins.napari_plugin.automatic_params import FindParams, KeepParams
from sam_plugins.napari_plugin.found_masks import FoundMasks
from sam_plugins.napari_plugin.images import ImageSource, look_at
from sam_plugins.napari_plugin.session.planes import Plane, Window
from sam_plugins.napari_plugin.session.values import Sight

Picture = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


class StoppedError(Exception):
    """Somebody pressed Cancel."""


@dataclass
class Progress:
    """Keeps what it is told, and stops where it should."""

    stops: Callable[[Progress], bool] = lambda _: False
    painted: list[Painted] = field(default_factory=list)
    begun: int = 0

    def check(self) -> None:
        self.begun += 1
        if self.stops(self):
            raise StoppedError

    def __call__(self, done: int, total: int) -> None:
        if self.stops(self):
            raise StoppedError

    def hand_over(self, value: Any) -> None:
        self.painted.append(value)

    @property
    def grounds(self) -> list[Ground]:
        return list(dict.fromkeys(painted.ground for painted in self.painted))


@dataclass(frozen=True)
class Found:
    """What came of a run; ``are_new`` is None where it was stopped."""

    grounds: list[Ground]
    masks: FoundMasks
    are_new: bool | None

    @property
    def tiles(self) -> list[int]:
        """Number of tiles that are done of each plane."""
        return [len(ground.masks) for ground in self.grounds]

    def labels(self, keep: KeepParams | None = None) -> list[Labels]:
        """Return the objects of each plane that pass the thresholds, joined."""
        told: Any = Progress()
        choose_again(self.masks, self.grounds, keep or KeepParams(), progress=told)
        drawn = [np.zeros(ground.region.shape, np.int64) for ground in self.grounds]
        for painted in told.painted:
            drawn[self.grounds.index(painted.ground)][painted.window.slices] = painted.labels
        return drawn


@dataclass(frozen=True)
class Finder:
    """Asks the shipped model; embeddings and masks are kept for all runs."""

    model: Model
    cache: EmbeddingCache
    folder: Path

    def find(
        self,
        source: ImageSource,
        params: FindParams | None = None,
        *,
        planes: tuple[Plane, ...] = (Plane(),),
        progress: Progress | None = None,
    ) -> Found:
        told: Any = progress or Progress()
        masks, are_new = FoundMasks(self.folder), None
        with suppress(StoppedError):
            are_new = find_all(
                lambda: self.model,
                source,
                sights(source, planes),
                params or FindParams(),
                KeepParams,
                cache=self.cache,
                masks=masks,
                progress=told,
            )
        return Found(told.grounds, masks, are_new)


def sights(source: ImageSource, planes: tuple[Plane, ...]) -> list[Sight]:
    whole = [Window(0, 0, *plane.size_hw(source.shape)) for plane in planes]
    return [look_at(source, plane, region) for plane, region in zip(planes, whole, strict=True)]


@pytest.fixture(scope="module")
def finder(tmp_path_factory: pytest.TempPathFactory) -> Finder:
    model = load_model("default", device="cpu")
    return Finder(model, EmbeddingCache(), tmp_path_factory.mktemp("proposals"))


@pytest.fixture(scope="module")
def coins() -> Picture:
    return row_of_coins()


def assert_same_objects(found: Labels, expected: npt.NDArray[np.integer[Any]]) -> None:
    """Check that labels are the same up to their numbers, but for single pixels.

    The cache keeps embeddings in float16, which moves a pixel here and there.
    """
    differs = (found > 0) != (expected > 0)
    assert differs.sum() <= 1e-3 * (expected > 0).sum()
    pairs = np.unique(np.stack([found, expected])[:, (found > 0) & (expected > 0)], axis=1)
    assert pairs.shape[1] == len(np.unique(found)) - 1 == expected.max()


@pytest.mark.parametrize("levels", [1, 2])
def test_small_objects_are_those_of_the_library_and_thresholds_choose_among_them(
    finder: Finder, coins: Picture, levels: int
) -> None:
    # The model sees no more of the whole than the smaller level has.
    smaller = resize(coins, (37, 1024), preserve_range=True).astype(np.uint8)
    source = ImageSource([coins, smaller][:levels])
    assert sights(source, (Plane(),))[0].level == levels - 1
    found = finder.find(source)
    assert found.tiles[0] > 1
    (labels,) = found.labels()
    expected = segment(coins, finder.model)
    assert len(expected) > 20
    assert_same_objects(labels, expected.labels)
    (fewer,) = found.labels(KeepParams(min_quality=float(np.median(expected.scores))))
    assert 1 < len(np.unique(fewer)) < len(np.unique(labels))


def test_large_objects_are_those_of_segment_seen_from_farther(
    finder: Finder, test_data: Path
) -> None:
    files = list_manifest_files(test_data, ["fly_egg_chambers"], split="train")
    chambers = next(file for file in files if file.id == "insitu7545").read().image
    found = finder.find(ImageSource([chambers], is_rgb=True))
    assert found.tiles == [1]
    (labels,) = found.labels()
    expected = segment(chambers, finder.model)
    assert_same_objects(labels, expected.labels)
    usual = segment(chambers, finder.model, looks_farther=False)
    assert len(np.unique(labels)) - 1 == len(expected) < len(usual)
    # Cancelled while it chooses how to see it, it ends at once and has found nothing.
    stopped = finder.find(
        ImageSource([chambers[:, ::-1]], is_rgb=True),
        progress=Progress(lambda told: told.begun > 2),
    )
    assert stopped.are_new is None
    assert stopped.grounds == []


def test_without_looking_closer_they_are_those_of_the_whole_picture(
    finder: Finder, coins: Picture
) -> None:
    found = finder.find(ImageSource([coins]), FindParams(looks_closer=False))
    assert found.tiles == [1]
    (labels,) = found.labels()
    with pytest.warns(ReducedImageWarning):
        expected = segment(coins, finder.model, looks_closer=False)
    assert_same_objects(labels, expected.labels)
    assert (finder.find(ImageSource([coins])).labels()[0] != labels).any()


def test_what_was_done_stays_when_it_stops_and_is_not_asked_about_again(
    finder: Finder, coins: Picture, tmp_path: Path
) -> None:
    source = ImageSource([coins])
    mine = replace(finder, folder=tmp_path)
    progress = Progress(stops=lambda told: len(told.painted) == 2)
    found = mine.find(source, progress=progress)
    assert found.are_new is None
    (part,) = found.labels()
    end = progress.painted[1].window.right
    assert part[:, :end].any()
    assert not part[:, end:].any()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(kept) == 2
    again = mine.find(source)
    assert again.are_new is False
    assert kept.items() <= {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}.items()
    np.testing.assert_array_equal(again.labels()[0], finder.find(source).labels()[0])


def test_the_middle_of_a_stack_says_how_its_slices_are_looked_at(
    finder: Finder, coins: Picture
) -> None:
    blank = np.zeros_like(coins)
    source = ImageSource([np.stack([blank, coins, blank])])
    found = finder.find(source, planes=tuple(Plane((1, 2), (at,)) for at in range(3)))
    windows = len(found.grounds[0].job.plan)
    assert windows > 1
    assert found.tiles == [windows] * 3
    before, middle, after = found.labels()
    assert len(np.unique(middle)) > 20
    assert not before.any()
    assert not after.any()


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the pictures that are encoded."""
    shapes: list[tuple[int, ...]] = []
    encode = predict.encode_rgb

    def noted(model: Model, rgb: Picture) -> Any:
        shapes.append(rgb.shape)
        return encode(model, rgb)

    monkeypatch.setattr(predict, "encode_rgb", noted)
    return shapes


def test_a_picture_that_is_looked_at_as_a_whole_is_encoded_once_and_counts_as_new(
    finder: Finder, encoded: list[tuple[int, ...]]
) -> None:
    blank = ImageSource([np.full((20, 1500), 7, np.uint8)])
    found = finder.find(blank)
    assert found.tiles == [1]
    assert encoded.count((20, 1500, 3)) == 1
    assert found.are_new
    assert finder.find(blank).are_new is False


def test_it_can_be_stopped_before_the_windows_are_known(
    finder: Finder, encoded: list[tuple[int, ...]]
) -> None:
    blank = ImageSource([np.full((200, 1500), 9, np.uint8)])
    found = finder.find(blank, progress=Progress(stops=lambda told: told.begun == 2))
    assert found.are_new is None
    assert found.grounds == []
    assert encoded == [(200, 1500, 3)]
