"""Maxima of the maps become points: one for each object, wherever it lies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sam_plugins.model.inference.seeds import (
    CELL,
    InstanceProbabilities,
    SeedOptions,
    closeness,
    find_seeds,
    seed_regions,
)
from sam_plugins.model.training.targets import instance_targets

Floats = npt.NDArray[np.float32]

SHARP = SeedOptions(min_foreground=0.5, min_prominence=0.05, smoothing=0)
ONLY_MAXIMA = replace(SHARP, seed_every_component=False)


def line(values: list[float], foreground: list[float] | None = None) -> InstanceProbabilities:
    """Return maps of one row whose centre and border are the same."""
    row = np.array([values], np.float32)
    inside = np.ones_like(row) if foreground is None else np.array([foreground], np.float32)
    return InstanceProbabilities(inside, row, row)


def maps_of(labels: npt.NDArray[np.int64]) -> InstanceProbabilities:
    """Return the maps that a network should answer."""
    targets = instance_targets(labels, np.ones(labels.shape, bool), complete=True)
    return InstanceProbabilities(*targets[:3])


def discs(size_hw: tuple[int, int], *discs_xyr: tuple[int, int, int]) -> npt.NDArray[np.int64]:
    """Draw discs, later ones on top."""
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]]
    labels = np.zeros(size_hw, np.int64)
    for label, (x, y, radius) in enumerate(discs_xyr, 1):
        labels[np.hypot(rows - y, columns - x) < radius] = label
    return labels


def columns_of(maps: InstanceProbabilities, options: SeedOptions) -> list[int]:
    """Return the cells of the seeds of one row, sorted."""
    return sorted(find_seeds(maps, options).cells_yx[:, 1].tolist())


def test_two_maxima_are_two_objects_if_the_map_falls_enough_between_them() -> None:
    maps = line([0, 0.5, 0.9, 0.7, 0.8, 0.3, 0])
    assert columns_of(maps, SeedOptions(smoothing=0, min_prominence=0.05)) == [2, 4]
    assert columns_of(maps, SeedOptions(smoothing=0, min_prominence=0.2)) == [2]


def test_equal_maxima_without_a_valley_between_them_are_one_object() -> None:
    maps = line([0.2, 0.8, 0.78, 0.8, 0.78, 0.8, 0.2])
    assert len(columns_of(maps, SHARP)) == 1
    assert columns_of(maps, SeedOptions(smoothing=0, min_prominence=0.01)) == [1, 3, 5]


def test_a_flat_top_is_one_object_and_its_point_lies_within() -> None:
    maps = line([0, 0.5, 1, 1, 1, 0.5, 0])
    (column,) = columns_of(maps, SHARP)
    assert 2 <= column <= 4


def test_background_has_no_maxima() -> None:
    assert columns_of(line([0, 0.9, 0, 0.9, 0], [1, 1, 1, 0.4, 1]), ONLY_MAXIMA) == [1]
    assert columns_of(line([0.9] * 5, [0.4] * 5), SHARP) == []


def test_weak_maxima_are_none_unless_a_piece_has_no_other() -> None:
    maps = line([0.1, 0.15, 0.1, 0, 0.5, 0.9, 0.5], [1, 1, 1, 0, 1, 1, 1])
    assert columns_of(maps, ONLY_MAXIMA) == [5]
    assert columns_of(maps, SHARP) == [1, 5]
    low = replace(ONLY_MAXIMA, min_strength=0.1)
    assert columns_of(maps, low) == [1, 5]


def test_a_map_of_one_height_is_one_object() -> None:
    for options in (SHARP, ONLY_MAXIMA, SeedOptions()):
        assert len(columns_of(line([0.6] * 4), options)) == 1
    assert len(columns_of(line([0.6]), ONLY_MAXIMA)) == 1
    assert columns_of(line([0.0] * 4), ONLY_MAXIMA) == []
    assert len(columns_of(line([0.0] * 4), SHARP)) == 1


def test_smoothing_joins_what_noise_parted() -> None:
    noisy = line([0.2, 0.6, 0.8, 0.7, 0.8, 0.6, 0.2])
    assert columns_of(noisy, SHARP) == [2, 4]
    assert columns_of(noisy, replace(SHARP, smoothing=1)) == [3]


def test_the_strongest_comes_first() -> None:
    found = find_seeds(line([0.4, 0, 0.9, 0, 0.6]), SHARP)
    assert found.cells_yx.tolist() == [[0, 2], [0, 4], [0, 0]]
    np.testing.assert_allclose(found.strengths, [0.9, 0.6, 0.4])


def test_points_are_found_to_a_fraction_of_a_cell() -> None:
    top = np.maximum(0.9 - (np.arange(9) - 3.3) ** 2 / 20, 0)
    (point,) = find_seeds(line(top.tolist()), SHARP).points_xy.tolist()
    assert point[0] == pytest.approx((3.3 + 0.5) * CELL - 0.5, abs=1e-3)
    assert point[1] == 1.5
    between = find_seeds(line([0, 0.8, 0.8, 0]), SHARP)
    assert between.points_xy[0, 0] == 2 * CELL - 0.5


def test_nothing_pulls_points_off_the_picture() -> None:
    found = find_seeds(line([0.9, 0.4, 0, 0.4, 0.9]), SHARP)
    assert sorted(found.points_xy[:, 0].tolist()) == [1.5, 17.5]


def test_nothing_is_found_in_an_empty_map() -> None:
    empty = InstanceProbabilities(*np.zeros((3, 5, 4), np.float32))
    found = find_seeds(empty)
    assert found.cells_yx.shape == found.points_xy.shape == (0, 2)
    assert found.strengths.shape == (0,)
    assert not seed_regions(empty, found).any()


def test_what_is_no_number_is_no_object() -> None:
    values = np.random.default_rng(0).random((3, 40, 50)).astype(np.float32)
    values[:, 10:20] = np.nan
    maps = InstanceProbabilities(*values)
    found = find_seeds(maps)
    assert len(found.cells_yx)
    assert not ((found.cells_yx[:, 0] >= 10) & (found.cells_yx[:, 0] < 20)).any()
    assert np.isfinite(found.points_xy).all()
    maps.foreground[:] = 1
    assert np.isfinite(find_seeds(maps).strengths).all()


def test_touching_nested_and_cut_off_objects_get_a_point_each() -> None:
    labels = discs((96, 160), (30, 30, 22), (72, 34, 20), (120, 60, 26), (158, 10, 14), (0, 90, 12))
    found = find_seeds(maps_of(labels))
    x, y = found.points_xy.round().astype(int).T
    assert sorted(labels[y, x].tolist()) == [1, 2, 3, 4, 5]


def test_regions_divide_the_foreground_among_the_points() -> None:
    labels = discs((96, 160), (30, 30, 22), (72, 34, 20), (120, 60, 26))
    maps = maps_of(labels)
    found = find_seeds(maps)
    regions = seed_regions(maps, found)
    assert ((regions > 0) == (maps.foreground >= SeedOptions().min_foreground)).all()
    for index, (row, column) in enumerate(found.cells_yx):
        assert regions[row, column] == index + 1
        true = labels[4 * row + 2, 4 * column + 2]
        cells = labels[2::CELL, 2::CELL] == true
        region = regions == index + 1
        assert (cells & region).sum() / (cells | region).sum() > 0.85


def test_a_seed_outside_the_foreground_still_has_its_cell() -> None:
    maps = line([0.9, 0.1, 0.8])
    found = find_seeds(maps, SHARP)
    strict = seed_regions(maps, found, SeedOptions(min_foreground=1, smoothing=0))
    assert set(np.unique(strict)) >= {1, 2}


MAPS = hnp.array_shapes(min_dims=2, max_dims=2, max_side=12).flatmap(
    lambda shape: hnp.arrays(np.float32, (3, *shape), elements=st.floats(0, 1, width=32))
)
OPTIONS = st.builds(
    SeedOptions,
    min_strength=st.sampled_from([0, 0.2, 0.9]),
    min_prominence=st.sampled_from([0.01, 0.2]),
    smoothing=st.sampled_from([0, 1]),
    seed_every_component=st.booleans(),
)


@given(MAPS, OPTIONS)
@settings(deadline=None)
def test_laws_of_seeds(values: Floats, options: SeedOptions) -> None:
    maps = InstanceProbabilities(*values)
    inside = maps.foreground >= options.min_foreground
    found = find_seeds(maps, options)
    cells = found.cells_yx
    assert inside[cells[:, 0], cells[:, 1]].all()
    assert len({tuple(cell) for cell in cells.tolist()}) == len(cells)
    assert (np.diff(found.strengths) <= 0).all()
    if not options.seed_every_component:
        assert (found.strengths >= options.min_strength).all()
    elif inside.any():
        assert len(cells)
    height, width = inside.shape
    assert (found.points_xy >= -0.5).all()
    assert (found.points_xy <= [CELL * width - 0.5, CELL * height - 0.5]).all()
    regions = seed_regions(maps, found, options)
    assert regions.shape == inside.shape
    assert not regions[~inside].any()
    assert set(np.unique(regions)) - {0} == set(range(1, len(cells) + 1))
    if options.seed_every_component:
        assert ((regions > 0) == inside).all()


@given(MAPS)
@settings(deadline=None)
def test_closeness_is_the_mean_of_two_maps(values: Floats) -> None:
    maps = InstanceProbabilities(*values)
    np.testing.assert_allclose(closeness(maps, 0), values[1:].mean(axis=0), rtol=1e-6)
    smooth = closeness(maps, 1.0)
    assert smooth.dtype == np.float32
    assert smooth.min() >= values[1:].mean(axis=0).min() - 1e-6


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("min_foreground", 1.5, r"min_foreground must lie in \[0, 1\], got 1.5"),
        ("min_strength", -1, r"min_strength must lie in \[0, 1\], got -1"),
        ("min_prominence", 0, r"min_prominence must lie in \(0, 1\), got 0"),
        ("smoothing", -0.5, "smoothing must be 0 or more, got -0.5"),
    ],
)
def test_options_out_of_range_are_refused(name: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SeedOptions(**{name: value})
