from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sam_plugins.model.inference.volume import LinkOptions
from sam_plugins.model.inference.volume.linking import SliceLinker, objects_of_tracks, pairs_of


def linked(volume: Any, options: LinkOptions, steps_per_pixel: float = 1.0) -> Any:
    """Link a volume whose slices are labelled anew, and return the tracks drawn, and the linker."""
    linker = SliceLinker(options, steps_per_pixel)
    drawn = np.zeros(np.shape(volume), np.int64)
    bridges = []
    for index, labels in enumerate(np.asarray(volume)):
        numbers, found = linker.add(index, labels, np.ones(labels.max()))
        drawn[index] = numbers[labels]
        bridges += found
    return drawn, linker, bridges


def bars(*rows: str) -> np.ndarray[Any, Any]:
    """One slice of one row for each text; digits are labels."""
    return np.array([[[int(c) for c in row]] for row in rows])


def test_the_best_sum_wins_and_not_the_first_come() -> None:
    # Greedy would link the first track with label 1 (IoU 0.47), and nothing else could be linked.
    volume = bars("111111111122222222", "222111111111111000")
    drawn, _, _ = linked(volume, LinkOptions(min_iou=0.1))
    assert drawn[1, 0].tolist() == [1] * 3 + [2] * 12 + [0] * 3


def test_objects_that_overlap_too_little_are_not_linked() -> None:
    volume = bars("11111000000", "00001111100")
    assert linked(volume, LinkOptions(min_iou=0.5, max_gap=0))[0].max() == 2
    assert linked(volume, LinkOptions(min_iou=0.1, max_gap=0))[0].max() == 1


def test_thick_slices_are_linked_with_less_overlap() -> None:
    volume = np.zeros((2, 12, 12), int)
    volume[0, 2:10, 2:10] = 1
    volume[1, 4:8, 4:8] = 1  # IoU 0.25
    options = LinkOptions(min_iou=0.4)
    assert linked(volume, options, 0.2)[0].max() == 2
    assert linked(volume, options, 3.0)[0].max() == 1


@pytest.mark.parametrize(("max_gap", "tracks"), [(0, 2), (1, 1), (2, 1)])
def test_gaps_are_closed_as_far_as_allowed(max_gap: int, tracks: int) -> None:
    drawn, _, bridges = linked(bars("0110", "0000", "0110"), LinkOptions(max_gap=max_gap))
    assert drawn.max() == tracks
    assert [(b.track, b.last) for b in bridges] == ([(1, 0)] if max_gap else [])


def test_a_track_seen_again_is_not_linked_over_the_gap_too() -> None:
    drawn, _, bridges = linked(bars("0110", "0110", "2200"), LinkOptions(min_iou=0.9, max_gap=1))
    assert drawn[:, 0, 1].tolist() == [1, 1, 2]
    assert bridges == []


def test_small_large_and_flat_objects_are_dropped() -> None:
    volume = bars("1102222033", "1102222000", "0002222000")
    drawn, linker, _ = linked(volume, LinkOptions())
    assert drawn.max() == 3
    kept = objects_of_tracks(linker.tracks, LinkOptions())
    assert sorted(one.voxels for one in kept) == [4, 12]
    assert [o.voxels for o in objects_of_tracks(linker.tracks, LinkOptions(min_voxels=5))] == [12]
    assert [o.voxels for o in objects_of_tracks(linker.tracks, LinkOptions(max_voxels=5))] == [4]
    assert len(objects_of_tracks(linker.tracks, LinkOptions(min_slices=1))) == 3
    assert kept[0].extent in ((0, 1), (0, 2))


def test_an_hourglass_is_split_at_its_waist() -> None:
    volume = bars("11111111", "11111111", "00110000", "11111111", "11111110")
    _, linker, _ = linked(volume, LinkOptions(min_iou=0.2))
    assert len(linker.tracks) == 1
    whole = objects_of_tracks(linker.tracks, LinkOptions())
    assert [one.extent for one in whole] == [(0, 4)]
    halves = objects_of_tracks(linker.tracks, LinkOptions(split_waist=0.5))
    assert sorted(one.extent for one in halves) == [(0, 1), (2, 4)]
    assert sum(one.voxels for one in halves) == whole[0].voxels


def test_a_piece_cut_off_on_one_slice_is_merged() -> None:
    volume = bars("11111111", "11111222", "11111111")
    _, linker, _ = linked(volume, LinkOptions())
    apart = objects_of_tracks(linker.tracks, LinkOptions(min_slices=1))
    assert sorted(one.voxels for one in apart) == [3, 21]
    merged = objects_of_tracks(linker.tracks, LinkOptions(merge_share=0.9))
    assert [one.voxels for one in merged] == [24]
    beside = bars("11111000", "11111222", "11111222", "11111000")
    _, linker, _ = linked(beside, LinkOptions())
    assert len(objects_of_tracks(linker.tracks, LinkOptions(merge_share=0.9))) == 2


def test_pairs_of_nothing_are_none() -> None:
    assert pairs_of(np.zeros((2, 2), int), np.ones((2, 2), int)) == []


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ValueError, match="min_iou must lie in"):
        LinkOptions(min_iou=1.5)
    with pytest.raises(ValueError, match="max_gap and min_voxels must be 0 or more"):
        LinkOptions(max_gap=-1)
    with pytest.raises(ValueError, match="min_slices must be 1 or more"):
        LinkOptions(min_slices=0)
    with pytest.raises(ValueError, match="not below min_voxels, got 3"):
        LinkOptions(min_voxels=5, max_voxels=3)
