"""Tiles suit the objects: small ones are enlarged, large ones are seen whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from scipy import ndimage
from skimage import data
from tests.model.inference.tiny_models import TINY_VIT, make_model
from tests.model.large.mosaics import Oracle, coins_labels, drawn, nuclei, repeated
from tests.model.large.test_automatic import Stops, job_of, run

from sam_plugins.model.inference.automatic import instance_maps, object_regions
from sam_plugins.model.inference.candidates import MaskFilter
from sam_plugins.model.inference.loading import Model, load_model
from sam_plugins.model.inference.predict import encode_rgb
from sam_plugins.model.inference.seeds import CELL
from sam_plugins.model.inference.segment_options import AUTO, GRID
from sam_plugins.model.inference.types import ImageEmbedding
from sam_plugins.model.large.picture import LazyPicture
from sam_plugins.model.large.results import work_folder
from sam_plugins.model.large.sizing import TileSize, earlier_size, model_glance, tile_size
from sam_plugins.model.large.whole import segment


class Look:
    """Sees in a window what the truth holds there, in cells of so many pixels."""

    def __init__(self, cell: int = 1) -> None:
        self.asked = 0
        self._find, self._cell = Oracle(), cell

    def __call__(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.integer]:
        self.asked += 1
        return self._find(rgb, None).labels[:: self._cell, :: self._cell]


def shown(truth: np.ndarray) -> LazyPicture:
    return LazyPicture(drawn(truth), limits=(0.0, 255.0), channel_axis=2)


def as_it_is(picture: npt.NDArray[np.uint8]) -> LazyPicture:
    return LazyPicture(picture, limits=(0.0, 255.0))


@pytest.mark.parametrize("cell", [1, 4])
def test_small_objects_get_small_tiles_and_large_ones_a_halo_that_holds_them(cell: int) -> None:
    coins = repeated(coins_labels(), (2, 2))  # 30 to 60 pixels long
    assert tile_size(shown(coins), 1024, Look(cell)) == TileSize(512, 64)
    tile, halo = tile_size(shown(coins), 300, Look(cell))
    assert tile == 300
    assert 37 < halo <= 75
    larger = coins.repeat(3, axis=0).repeat(3, axis=1)
    tile, halo = tile_size(shown(larger), 1024, Look(cell))
    assert (tile, halo % 32) == (1024, 0)
    assert 128 <= halo <= 256


def test_what_a_window_cuts_tells_nothing() -> None:
    truth = np.zeros((3000, 3000), np.int32)
    truth[1400:1600, :] = 1  # through all of the middle window
    truth[:200, :200] = 2
    truth[1300:1340, 1300:1340] = 3
    for cell in (1, 4):
        assert tile_size(shown(truth), 1024, Look(cell)) == TileSize(512, 64)


def test_what_is_given_stays_and_needs_no_look() -> None:
    look = Look()
    picture = shown(coins_labels())
    assert tile_size(picture, 1024, look, tile=400) == TileSize(400, 50)
    assert tile_size(picture, 1024, look, tile=400, halo=7) == TileSize(400, 7)
    assert look.asked == 0
    assert tile_size(picture, 1024, look, halo=7).halo == 7
    assert look.asked == 1  # one window holds the picture


def test_where_objects_are_dense_one_window_tells() -> None:
    dense, sparse = Look(), Look()
    coins = repeated(coins_labels(), (8, 6))
    assert tile_size(shown(coins), 1024, dense) == TileSize(512, 64)
    assert dense.asked == 1
    alone = np.where(coins == coins[coins > 0].min(), coins, 0)
    tile_size(shown(alone), 1024, sparse)
    assert sparse.asked == 3


def test_an_empty_picture_gets_small_tiles() -> None:
    assert tile_size(shown(np.zeros((90, 90), np.int32)), 1024, Look()) == TileSize(512, 64)


# ------------------------------------------------------------------------------ how a model looks


@pytest.fixture(scope="module")
def shipped() -> Model:
    return load_model("default")


def enlarged(picture: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.uint8]:
    height, width = picture.shape
    return np.asarray(Image.fromarray(picture).resize((width * factor, height * factor)))


def usual_length(labels: npt.NDArray[np.integer]) -> float:
    parts = [where for where in ndimage.find_objects(labels) if where is not None]
    return float(
        np.percentile([max(part.stop - part.start for part in where) for where in parts], 90)
    )


def test_the_maps_of_the_shipped_model_choose_tiles_and_no_mask_is_asked_for(
    shipped: Model, test_data: Path
) -> None:
    look = model_glance(shipped, "auto", AUTO)
    small, _ = nuclei(test_data, 768)
    coins = data.coins()
    with patch.object(shipped.network, "decode", side_effect=AssertionError("asked for a mask")):
        for picture in (small, np.tile(coins, (3, 3))):
            assert tile_size(as_it_is(picture), 1024, look) == TileSize(512, 64)
        tile, halo = tile_size(as_it_is(enlarged(coins, 4)), 1024, look)
        assert tile == 1024
        assert halo in {192, 224}


@pytest.mark.slow
def test_the_maps_see_objects_as_long_as_their_masks(shipped: Model, test_data: Path) -> None:
    picture, _ = nuclei(test_data, 256)
    regions = object_regions(shipped, encode_rgb(shipped, np.stack([picture] * 3, axis=-1)))
    masks = segment(picture, shipped, limits=(0, 255)).labels
    scale = max(picture.shape) / max(regions.shape)
    assert abs(usual_length(regions) * scale - usual_length(masks)) <= CELL


def test_regions_are_those_of_the_maps(shipped: Model) -> None:
    embedding = encode_rgb(shipped, np.stack([data.coins()] * 3, axis=-1))
    regions = object_regions(shipped, embedding)
    assert regions.shape == instance_maps(shipped, embedding).foreground.shape
    assert 15 <= regions.max() <= 40  # 24 coins


def test_a_model_without_maps_is_asked_for_every_object() -> None:
    model = make_model(TINY_VIT, "tiny-vit")
    picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    few = replace(GRID, points_per_side=3, masks=MaskFilter(0, 0))
    encoded = []

    def encode(rgb: npt.NDArray[np.uint8]) -> ImageEmbedding:
        encoded.append(rgb)
        return encode_rgb(model, rgb)

    labels = model_glance(model, "grid", few, encode)(picture)
    assert labels.shape == (60, 90)
    assert labels.max() > 0
    assert len(encoded) == 1
    assert isinstance(tile_size(as_it_is(picture), 128, model_glance(model, "grid", few)), TileSize)


def test_a_run_goes_on_with_the_tiles_that_it_began_with(tmp_path: Path) -> None:
    picture, output = drawn(coins_labels()), tmp_path / "a_labels.zarr"
    folder = work_folder(output)
    assert earlier_size(output, folder) is None
    with pytest.raises(KeyboardInterrupt):
        run(picture, output, Stops(after=2))
    plan = job_of(picture, output).plan
    assert earlier_size(output, folder) == TileSize(plan.tile, plan.halo)
    run(picture, output)
    assert not folder.exists()
    assert earlier_size(output, folder) == TileSize(plan.tile, plan.halo)
