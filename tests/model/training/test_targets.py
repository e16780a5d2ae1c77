from __future__ import annotations

import numpy as np

from sam_plugins.model.training.targets import instance_targets


def test_every_object_has_one_peak_even_when_smaller_than_a_cell() -> None:
    labels = np.zeros((64, 64), np.int64)
    labels[4:20, 4:20] = 1
    labels[4:20, 20:36] = 2  # touches the first
    labels[40:43, 41:44] = 3
    labels[50:62, 4:60] = 7  # numbers may have gaps
    foreground, centre, border, known = instance_targets(
        labels, np.ones(labels.shape, bool), complete=True
    )
    assert foreground.shape == (16, 16)
    assert known.all()
    assert (centre == 1).sum() == 4
    for rows, columns in (
        (slice(1, 5), slice(1, 5)),
        (slice(1, 5), slice(5, 9)),
        (slice(10, 11), slice(10, 11)),
        (slice(12, 16), slice(1, 15)),
    ):
        assert centre[rows, columns].max() == 1
    # Between the objects that touch, the distance to the border falls.
    assert border[3, 4] < border[3, 3]
    assert border[3, 5] < border[3, 6]
    assert border.max() <= 1


def test_the_peak_of_a_ring_lies_on_the_ring() -> None:
    rows, columns = np.indices((64, 64)) - 32
    radius = np.hypot(rows, columns)
    labels = ((radius > 12) & (radius < 24)).astype(np.int64)
    _, centre, _, _ = instance_targets(labels, np.ones(labels.shape, bool), complete=True)
    y, x = np.unravel_index(centre.argmax(), centre.shape)
    assert labels[4 * y + 1, 4 * x + 1] == 1


def test_background_of_an_incomplete_picture_is_known_only_near_objects() -> None:
    labels = np.zeros((128, 128), np.int64)
    labels[8:24, 8:24] = 1
    known = np.ones(labels.shape, bool)
    known[:, 120:] = False
    complete = instance_targets(labels, known, complete=True)[3]
    incomplete = instance_targets(labels, known, complete=False)[3]
    assert complete[:, :30].all()
    assert not complete[:, 30:].any()
    assert incomplete[2:6, 2:6].all()
    assert incomplete[4, 7] == 1
    assert incomplete[20:, 20:].sum() == 0


def test_an_empty_crop_has_empty_targets() -> None:
    labels = np.zeros((32, 32), np.int64)
    targets = instance_targets(labels, np.ones(labels.shape, bool), complete=True)
    assert targets[:3].sum() == 0
    assert targets[3].all()
