"""Training by what CLIP sees teaches a network words, on coloured shapes.

With less training than benchmarks/measure_text.py, whose figures are in the documentation.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks.coloured_shapes import COLOURS, HELD_OUT, SHAPES, draw_scene, pairs


def test_every_colour_and_every_shape_is_seen_in_training_and_held_out() -> None:
    seen = pairs(held_out=False)
    assert not set(seen) & set(HELD_OUT)
    for group in (seen, pairs(held_out=True)):
        assert {colour for colour, _ in group} == set(COLOURS)
        assert {shape for _, shape in group} == set(SHAPES)


def test_scenes_are_made_of_what_was_asked_for() -> None:
    scene = draw_scene(np.random.default_rng(0), pairs(held_out=True), count=4)
    assert len(set(scene.phrases)) == len(scene.phrases) == scene.labels.max()
    assert set(scene.phrases) <= {" ".join(pair) for pair in HELD_OUT}
    assert (np.bincount(scene.labels.ravel())[1:] > 40).all()
    again = draw_scene(np.random.default_rng(0), pairs(held_out=True), count=4)
    np.testing.assert_array_equal(scene.rgb, again.rgb)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_phrases_find_their_shapes(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed (extra: text)")
    from benchmarks.shapes_clip import train_clip
    from benchmarks.shapes_model import measure_phrases, train_model

    clip = train_clip(tmp_path / "clip", steps=1000)
    model = train_model(clip, steps=1000)
    for held_out in (False, True):
        found, at_random = measure_phrases(model, clip, held_out=held_out, scenes=48)
        assert found.iou.low > at_random, (held_out, found)
        assert found.iou.low > found.chance.high, (held_out, found)
