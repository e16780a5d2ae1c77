"""Slices are encoded once, and those around where one is before they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.gui
pytest.importorskip("napari")

from tests.napari_plugin.segment_stack.following import (  # noqa: E402
    Labels,
    followed,
    is_following,
    start,
)
from tests.napari_plugin.segmenting import Open, answered, shipped_model, until  # noqa: E402

from sam_plugins import EmbeddingCache  # noqa: E402
from sam_plugins.napari_plugin.answering import Answerer  # noqa: E402


@pytest.mark.slow
def test_the_first_mask_costs_one_encode_and_following_encodes_it_no_more(
    viewer: Any, open_segment: Open, embryo: tuple[Any, Labels]
) -> None:
    cache = EmbeddingCache()
    encoder = shipped_model().network.image_encoder
    encodes = []
    hook = encoder.register_forward_hook(lambda *_: encodes.append(1))
    try:
        doubled = (np.concatenate([embryo[0]] * 2), np.concatenate([embryo[1], embryo[1] * 0]))
        assert len(doubled[0]) > 100
        widget, _, _ = start(
            viewer,
            open_segment,
            doubled,
            loader=lambda show: Answerer(shipped_model(), cache, show),
        )
        assert len(encodes) == 1
        widget.controller.propagate()
        until(lambda: not is_following(widget))
        (found,) = followed(widget)
        assert len(found.slices) <= len(encodes) <= len(found.slices) + 4
    finally:
        hook.remove()


@pytest.mark.slow
def test_the_other_slices_are_encoded_from_where_one_is(
    viewer: Any, open_segment: Open, embryo: tuple[Any, Labels], tmp_path: Path
) -> None:
    seen: list[int] = []

    def loader(show: Any) -> Answerer:
        def watched(sight: Any) -> Any:
            return show(sight)

        cache = EmbeddingCache(tmp_path / "embeddings")
        return Answerer(shipped_model(), cache, watched)

    encoder = shipped_model().network.image_encoder
    hook = encoder.register_forward_hook(lambda *_: seen.append(1))
    image = embryo[0][10:24]
    try:
        viewer.add_image(image, name="part")
        viewer.dims.set_point(0, 3)
        widget, hand = open_segment(loader=loader, ahead=True)
        hand.click((3, 60, 60))
        answered(widget)
        filler = widget.segmenter.through.filler  # type: ignore[union-attr]
        assert filler.job is not None
        until(lambda: len(seen) >= 3)
        viewer.dims.set_point(0, 12)
        assert filler._focus == 12
        until(lambda: filler._slices is not None)
        slices = filler._slices
        assert slices is not None
        until(lambda: slices.is_ready(11))
        assert slices.is_ready(12)
        assert not slices.is_ready(7)  # it was nearer to where one began
        until(lambda: not filler.is_running)
        encoded = len(seen)
        assert len(image) <= encoded <= len(image) + 1  # that of 12 may be asked for twice at once
        widget.controller.close()
        # Another program, after a crash: everything is there.
        again, hand = open_segment(loader=loader, ahead=True)
        hand.click((3, 60, 60))
        answered(again)
        filler = again.segmenter.through.filler  # type: ignore[union-attr]
        assert filler.job is not None
        until(lambda: not filler.is_running)
        assert len(seen) == encoded
    finally:
        hook.remove()
