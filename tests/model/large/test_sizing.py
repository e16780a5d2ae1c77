"""Tiles suit the objects: small ones are enlarged, large ones are seen whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.model.large.mosaics import Oracle, coins_labels, drawn, repeated
from tests.model.large.test_automatic import Stops, job_of, run

from sam_plugins.model.large.picture import LazyPicture
from sam_plugins.model.large.results import work_folder
from sam_plugins.model.large.sizing import TileSize, earlier_size, tile_size


def shown(truth: np.ndarray) -> LazyPicture:
    return LazyPicture(drawn(truth), limits=(0.0, 255.0), channel_axis=2)


def test_small_objects_get_small_tiles_and_large_ones_a_halo_that_holds_them() -> None:
    coins = repeated(coins_labels(), (2, 2))  # 30 to 60 pixels long
    assert tile_size(shown(coins), 1024, Oracle()) == TileSize(512, 64)
    tile, halo = tile_size(shown(coins), 300, Oracle())
    assert tile == 300
    assert 37 < halo <= 75
    larger = coins.repeat(3, axis=0).repeat(3, axis=1)
    tile, halo = tile_size(shown(larger), 1024, Oracle())
    assert (tile, halo % 32) == (1024, 0)
    assert 128 <= halo <= 256


def test_what_is_given_stays_and_needs_no_look() -> None:
    find = Oracle()
    picture = shown(coins_labels())
    assert tile_size(picture, 1024, find, tile=400) == TileSize(400, 50)
    assert tile_size(picture, 1024, find, tile=400, halo=7) == TileSize(400, 7)
    assert find.asked == 0
    assert tile_size(picture, 1024, find, halo=7).halo == 7
    assert find.asked == 1  # one window holds the picture


def test_where_objects_are_dense_one_window_tells() -> None:
    dense, sparse = Oracle(), Oracle()
    coins = repeated(coins_labels(), (8, 6))
    assert tile_size(shown(coins), 1024, dense) == TileSize(512, 64)
    assert dense.asked == 1
    alone = np.where(coins == coins[coins > 0].min(), coins, 0)
    tile_size(shown(alone), 1024, sparse)
    assert sparse.asked == 3


def test_an_empty_picture_gets_small_tiles() -> None:
    assert tile_size(shown(np.zeros((90, 90), np.int32)), 1024, Oracle()) == TileSize(512, 64)


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
