from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.model.inference.tiny_models import TINY_PYRAMID, make_model
from tests.model.inference.volume.seeing import network_of, seeing_model
from tests.model.inference.volume.shapes3d import balls, iou, picture

from sam_plugins.model.inference.cache import EmbeddingCache
from sam_plugins.model.inference.types import Prompts
from sam_plugins.model.inference.volume import (
    FILM,
    Propagation,
    PropagationOptions,
    PropagationRun,
    Seed,
    SliceEmbeddings,
    StopReason,
    Volume,
    correct,
    propagate,
)
from sam_plugins.model.inference.volume.propagate import _between
from sam_plugins.model.inference.volume.shapes import window_of
from sam_plugins.model.inference.volume.values import Chain, SliceMask, Stop

# The network of these tests sees every cap of a ball, whose last slices overlap little.
TRUSTING = PropagationOptions(
    min_overlap=0.4, min_similarity=-1, min_confidence=0, second_opinion=False
)

TWO = balls((24, 40, 48), [(12, 14, 14), (9, 26, 34)], [8, 7])


def slices_of(values: Any, axis: int = 0, **options: Any) -> SliceEmbeddings:
    volume = Volume(values, limits=(0.0, 255.0), **options)
    return SliceEmbeddings(seeing_model(), volume, axis=axis, cache=EmbeddingCache())


def click(number: int, index: int, x: float, y: float) -> Seed:
    return Seed(number, index, prompts=Prompts.for_object([[x, y]]))


@pytest.fixture(scope="module")
def both() -> tuple[SliceEmbeddings, Propagation]:
    slices = slices_of(picture(TWO))
    seeds = [click(1, 12, 14, 14), click(2, 9, 34, 26)]
    return slices, propagate(slices, seeds, options=TRUSTING)


def test_one_click_each_finds_two_balls(both: tuple[SliceEmbeddings, Propagation]) -> None:
    _, found = both
    labels = found.labels()
    assert labels.dtype == np.int32
    for number in (1, 2):
        assert iou(labels == number, np.equal(TWO, number)) > 0.97
        assert iou(found.mask(number), np.equal(TWO, number)) > 0.97


def test_each_slice_is_encoded_once_for_all_objects(
    both: tuple[SliceEmbeddings, Propagation],
) -> None:
    slices, found = both
    network = network_of(slices.model)
    seen = {index for one in found.objects for index in one.indices}
    assert len(seen) <= slices.encodes == network.encodes <= len(seen) + 4
    assert found.decodes == network.decodes


def test_stops_say_where_and_why(both: tuple[SliceEmbeddings, Propagation]) -> None:
    _, found = both
    below, above = found[1].stops
    assert below.index < found[1].indices[0] <= 5
    assert above.index > found[1].indices[-1] >= 19
    for stop in (below, above):
        assert stop.reason in (StopReason.EMPTY, StopReason.OVERLAP)
    with pytest.raises(KeyError, match="no object 3; there are 1, 2"):
        found[3]


def test_a_second_opinion_asks_twice() -> None:
    seeds = [Seed(1, 12, TWO[12] == 1)]
    one = propagate(slices_of(picture(TWO)), seeds, options=TRUSTING)
    two = propagate(slices_of(picture(TWO)), seeds, options=replace(TRUSTING, second_opinion=True))
    assert two.decodes == 2 * one.decodes
    assert (two.labels() == one.labels()).all()  # this network is always of one opinion


def test_a_film_is_followed_with_the_mask_itself() -> None:
    frames = np.zeros((6, 40, 60), np.uint16)
    for index in range(6):
        frames[index, 10:30, 5 + 5 * index : 30 + 5 * index] = 1
    slices = slices_of(picture(frames))
    found = propagate(slices, [click(1, 0, 15, 20)], options=FILM)
    assert found[1].indices.tolist() == [0, 1, 2, 3, 4, 5]
    assert network_of(slices.model).masks_given == found.decodes - 2


def test_the_edge_of_the_range_stops() -> None:
    slices = slices_of(picture(TWO))
    found = propagate(slices, [click(1, 12, 14, 14)], index_range=(10, 15))
    assert found[1].indices.tolist() == [10, 11, 12, 13, 14]
    assert [(s.index, s.reason) for s in found[1].stops] == [
        (9, StopReason.EDGE),
        (15, StopReason.EDGE),
    ]
    assert found.doubtful(0) == ()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (PropagationOptions(min_overlap=0.95), StopReason.OVERLAP),
        (PropagationOptions(min_predicted_iou=0.99), StopReason.PREDICTED_IOU),
        (PropagationOptions(min_overlap=0, max_area_ratio=1.01), StopReason.AREA),
        (PropagationOptions(min_overlap=0, max_growth=1.0, max_area_ratio=9), StopReason.AREA),
        (PropagationOptions(min_overlap=0, min_similarity=1.0), StopReason.APPEARANCE),
        (PropagationOptions(min_overlap=0, min_confidence=0.99, patience=2), StopReason.CONFIDENCE),
    ],
)
def test_each_doubt_stops_with_its_figure(options: PropagationOptions, reason: StopReason) -> None:
    found = propagate(slices_of(picture(TWO)), [click(1, 12, 14, 14)], options=options)
    assert {stop.reason for stop in found[1].stops} == {reason}
    assert all(np.isfinite(stop.value) for stop in found[1].stops)
    doubts = found.doubtful(0.0)
    assert {doubt.index for doubt in doubts} == {found[1].indices[0], found[1].indices[-1]}
    assert all(reason.value in doubt.reason for doubt in doubts)


@pytest.mark.parametrize("axis", [1, 2])
def test_a_transposed_volume_gives_the_transposed_result(
    axis: int, both: tuple[SliceEmbeddings, Propagation]
) -> None:
    _, along_z = both
    values = np.ascontiguousarray(np.moveaxis(picture(TWO), 0, axis))
    seeds = [click(1, 12, 14, 14), click(2, 9, 34, 26)]
    along = propagate(slices_of(values, axis), seeds, options=TRUSTING)
    assert (np.moveaxis(along.labels(), axis, 0) == along_z.labels()).all()
    assert along.labels().any()


def test_a_transposed_volume_is_the_same_to_a_network(tmp_path: Any) -> None:
    model = make_model(TINY_PYRAMID, "tiny")
    values = np.random.default_rng(0).integers(0, 256, (6, 40, 48), dtype=np.uint8)
    seed = Seed(1, 2, np.pad(np.ones((12, 12), bool), ((10, 18), (10, 26))))
    options = PropagationOptions(
        min_overlap=0,
        min_predicted_iou=0,
        max_area_ratio=1e9,
        max_growth=1e9,
        min_similarity=-1,
        min_confidence=0,
    )
    results = []
    for axis in (0, 1, 2):
        moved = Volume(np.moveaxis(values, 0, axis))
        slices = SliceEmbeddings(model, moved, axis=axis, cache=EmbeddingCache(tmp_path))
        found = propagate(slices, [seed], options=options)
        results.append(np.moveaxis(found.labels(), axis, 0))
    assert (results[0] == results[1]).all()
    assert (results[0] == results[2]).all()


def test_thick_slices_are_followed_where_the_voxel_size_is_known() -> None:
    size = (4.0, 1.0, 1.0)
    ball = balls((9, 40, 40), [(16, 20, 20)], [14], size)
    seed = [click(1, 4, 20, 20)]
    known = propagate(slices_of(picture(ball), voxel_size_zyx=size), seed)
    unknown = propagate(slices_of(picture(ball)), seed)
    assert iou(known.mask(1), ball) > iou(unknown.mask(1), ball)
    assert len(known[1].indices) == 7


def test_thick_slices_along_y() -> None:
    size = (3.0, 1.0, 1.0)
    ball = balls((12, 40, 40), [(18, 20, 20)], [12], size)
    slices = slices_of(picture(ball), axis=1, voxel_size_zyx=size)
    found = propagate(slices, [click(1, 20, 20, 6)])
    assert iou(found.mask(1), ball) > 0.9


def test_a_correction_goes_on_from_there_only(both: tuple[SliceEmbeddings, Propagation]) -> None:
    slices, known = both
    network = network_of(slices.model)
    encodes, decodes = network.encodes, network.decodes
    corrected = correct(slices, known, [Seed(1, 15, TWO[15] == 1)], options=TRUSTING)
    after = [i for i in known[1].indices if i > 15]
    between = [13, 14]
    asked = network.decodes - decodes
    # Up to the stop, back to the prompted slice; nothing of the other object, or below.
    assert asked == 1 + len(after) + 1 + len(between)  # once on the corrected slice itself
    assert corrected.decodes == asked
    assert network.encodes == encodes
    assert corrected[2].slices == known[2].slices
    for index in known[1].indices[known[1].indices <= 12]:
        assert corrected[1].slices[index] is known[1].slices[index]
    assert corrected[1].slices[15].is_prompted
    assert iou(corrected.mask(1), TWO == 1) > 0.97


def test_a_mask_without_pixels_ends_an_object(both: tuple[SliceEmbeddings, Propagation]) -> None:
    slices, known = both
    before = network_of(slices.model).decodes
    ended = correct(slices, known, [Seed(1, 16, np.zeros((40, 48), bool))])
    assert ended[1].indices[-1] == 15
    assert (ended[1].stops[1].index, ended[1].stops[1].reason) == (16, StopReason.PROMPTED)
    assert network_of(slices.model).decodes == before


def test_two_prompted_slices_meet_in_the_middle() -> None:
    # A cone that no overlap of neighbours would follow: its slices are far apart.
    labels = np.zeros((9, 60, 60), np.uint16)
    for z in range(9):
        half = 3 + 3 * z
        labels[z, 30 - half : 30 + half, 30 - half : 30 + half] = 1
    values = picture(labels)
    values[4] = 20  # a slice on which nothing can be seen
    slices = slices_of(values)
    seeds = [Seed(1, 0, labels[0] > 0), Seed(1, 8, labels[8] > 0)]
    found = propagate(slices, seeds, options=PropagationOptions(min_overlap=0.9, allow_steps=False))
    indices = found[1].indices.tolist()
    assert indices == [0, 1, 2, 3, 5, 6, 7, 8]
    assert (found.mask(1)[0] == (labels[0] > 0)).all()
    assert [stop.reason for stop in found[1].stops] == [StopReason.EDGE] * 2


def test_between_prompted_slices_the_nearer_one_counts_more() -> None:
    labels = np.zeros((7, 40, 40), np.uint16)
    labels[:, 10:30, 10:30] = 1
    slices = slices_of(picture(labels))
    left = np.zeros((40, 40), bool)
    left[10:30, 10:30] = True
    found = propagate(slices, [Seed(1, 0, left), Seed(1, 6, left)])
    assert (found.mask(1) == (labels > 0)).all()
    middle = found[1].slices[3]
    assert middle.overlap == 1.0
    assert not middle.is_prompted


def test_cancelling_keeps_the_embeddings_and_a_second_try_ends_the_work() -> None:
    slices = slices_of(picture(TWO))

    def cancel(done: int, _: int) -> None:
        if done == 5:
            raise TimeoutError("cancelled")

    seeds = [click(1, 12, 14, 14)]
    with pytest.raises(TimeoutError, match="cancelled"):
        propagate(slices, seeds, progress=cancel)
    done = slices.encodes
    assert 5 <= done <= 6
    told: list[tuple[int, int]] = []
    found = propagate(slices, seeds, options=TRUSTING, progress=lambda *step: told.append(step))
    assert iou(found.mask(1), TWO == 1) > 0.97
    assert slices.encodes - done < len(found[1].indices)
    assert told[-1][0] == told[-1][1] < 48  # where the ball ends nothing is left to visit
    assert [step[0] for step in told] == sorted(step[0] for step in told)


def test_a_run_tells_the_nearest_slices_first_and_goes_on_after_it_was_left() -> None:
    slices = slices_of(picture(TWO))
    seeds = [click(1, 12, 14, 14)]
    told: list[int] = []

    def leave(done: int, _: int) -> None:
        if done == 5:
            raise TimeoutError("left")

    run = PropagationRun(
        slices,
        seeds,
        options=TRUSTING,
        progress=leave,
        on_slice=lambda number, found: told.append(found.index),
    )
    assert run.result().objects == ()
    with pytest.raises(TimeoutError, match="left"):
        run.go()
    assert told == [12, 13, 11, 14, 10, 15]
    part = run.result()
    assert sorted(part[1].slices) == sorted(told)
    assert {stop.reason for stop in part[1].stops} == {StopReason.INTERRUPTED}
    assert [stop.index for stop in part[1].stops] == [9, 16]
    assert all("ended" not in doubt.reason for doubt in part.doubtful())
    rest = propagate(slices, seeds, options=TRUSTING, known=part)
    whole = propagate(slices, seeds, options=TRUSTING)
    assert rest.decodes <= whole.decodes - 7  # the click, and five of the slices
    np.testing.assert_array_equal(rest.mask(1), whole.mask(1))


def test_overlapping_objects_go_to_the_more_confident_one() -> None:
    slices = slices_of(picture(TWO))
    mask = TWO[12] == 1
    found = propagate(slices, [Seed(1, 12, mask), Seed(2, 13, TWO[13] == 1)])
    labels = found.labels()
    assert set(np.unique(labels[12]).tolist()) == {0, 1}
    assert set(np.unique(labels[13]).tolist()) == {0, 2}


def test_labels_are_written_to_what_is_given(both: tuple[SliceEmbeddings, Propagation]) -> None:
    _, found = both
    out = np.full((24, 40, 48), 9, np.uint8)
    assert found.labels(out) is out
    assert (out[TWO == 0] == 9).mean() > 0.99
    assert (out == 1).any()
    with pytest.raises(ValueError, match=r"out must have shape \(24, 40, 48\), got \(2, 2, 2\)"):
        found.labels(np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(ValueError, match="out must hold integers, got float32"):
        found.labels(np.zeros((24, 40, 48), np.float32))


def test_confidence_is_low_where_it_should_be_looked_at() -> None:
    values = picture(TWO)
    values[16, 8:20, 8:13] = 20  # a slice on which half of the ball is dark
    found = propagate(slices_of(values), [click(1, 12, 14, 14)], options=TRUSTING)
    confidence = dict(zip(found[1].indices.tolist(), found[1].confidence, strict=True))
    assert confidence[16] < confidence[14] - 0.1
    doubts = {doubt.index: doubt for doubt in found.doubtful(0.9)}
    assert 16 in doubts
    assert 14 not in doubts
    assert doubts[16].reason == f"confidence {confidence[16]:.2f}"


@pytest.mark.parametrize(
    ("seeds", "error", "match"),
    [
        ([], ValueError, "seeds must hold at least one, got none"),
        ([Seed(1, 99, np.ones((40, 48), bool))], IndexError, "from 0 to 23, got 99"),
        ([Seed(1, 2, np.ones((4, 4), bool))], ValueError, r"must have shape \(40, 48\), got"),
        ([Seed(1, 2, np.ones((40, 48), bool))] * 2, ValueError, "one seed on slice 2, got two"),
        ([click(1, 3, 200, 3)], ValueError, "points_xy must lie within the picture"),
    ],
)
def test_wrong_seeds_are_refused(seeds: list[Seed], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        propagate(slices_of(picture(TWO)), seeds)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="a seed must have a mask or prompts"):
        Seed(1, 0)
    with pytest.raises(ValueError, match="object_id must be 1 or more, got 0"):
        Seed(0, 0, np.ones((2, 2), bool))
    with pytest.raises(ValueError, match="of one object, got 2"):
        Seed(1, 0, prompts=Prompts.single_points([[1, 1], [2, 2]]))
    with pytest.raises(ValueError, match=r"shape \(H, W\), got \(2,\)"):
        Seed(1, 0, np.ones(2, bool))
    with pytest.raises(ValueError, match="min_overlap must lie in"):
        PropagationOptions(min_overlap=2)
    with pytest.raises(ValueError, match="max_area_ratio must be 1 or more"):
        PropagationOptions(max_area_ratio=0.5)
    with pytest.raises(ValueError, match=r"min_similarity must lie in \[-1, 1\]"):
        PropagationOptions(min_similarity=-2)
    with pytest.raises(ValueError, match=r"index_range must lie within 0 and 24, got \(3, 3\)"):
        propagate(slices_of(picture(TWO)), [click(1, 12, 14, 14)], index_range=(3, 3))
    with pytest.raises(TypeError, match="slices must be of type SliceEmbeddings"):
        propagate(Volume(picture(TWO)), [])  # type: ignore[arg-type]


def test_a_way_that_begins_with_few_pixels_counts_less() -> None:
    def square(side: int) -> SliceMask:
        mask = np.zeros((40, 40), bool)
        mask[20 - side // 2 : 20 + side // 2, 20 - side // 2 : 20 + side // 2] = True
        return SliceMask(2, window_of(mask))

    def way(index: int, start: int, side: int, *, direction: int) -> Chain:
        anchor = replace(square(start), index=index)
        seed = Seed(1, index, anchor.drawn((40, 40)))
        return Chain(seed, anchor, direction, (square(side),), Stop(2, StopReason.EDGE))

    def area(first: int, last: int) -> int:
        up, down = way(0, first, 20, direction=1), way(4, last, 16, direction=-1)
        return _between(up, down, (40, 40))[2].area

    assert area(20, 4) > 19**2  # near what comes from the middle
    assert area(18, 18) < 19**2  # as much of one as of the other
