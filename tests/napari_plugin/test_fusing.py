"""Objects along three axes at once: the vote of two reaches the session, in a real window."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.model.inference.volume.seeing import seeing_model
from tests.model.inference.volume.shapes3d import balls, iou, picture

from sam_plugins.errors import MemoryLimitError
from sam_plugins.model.inference.cache import EmbeddingCache
from sam_plugins.model.inference.types import Prompts
from sam_plugins.model.inference.volume import (
    Seed,
    SliceEmbeddings,
    Volume,
    propagate_three_axes,
)
from sam_plugins.napari_plugin.follow_params import FollowParams
from sam_plugins.napari_plugin.fusing import require_fusible
from sam_plugins.napari_plugin.images import ImageSource, look_at
from sam_plugins.napari_plugin.session.planes import Plane, Window
from sam_plugins.napari_plugin.stack import NoStackError, Stack

BALL = balls((24, 40, 36), [(12, 20, 16)], [8])
TRUSTING = FollowParams(min_overlap=0.4, min_similarity=-1, patience=9, encodes_ahead=False)


def leaking() -> npt.NDArray[np.uint8]:
    """Return a ball (Z, Y, X) from which a bright thread leads on one slice."""
    values = picture(BALL)
    values[15, 20, 16:34] = 220
    values[15, 14:26, 22:34] = 220
    return values


def load(show: Any) -> Any:
    """Answer with a network that takes what is bright."""
    from sam_plugins.napari_plugin.answering import Answerer

    return Answerer(seeing_model(), EmbeddingCache(), show)


@pytest.mark.gui
def test_what_two_of_three_axes_agree_on_is_followed(viewer: Any) -> None:
    from dataclasses import replace

    from tests.napari_plugin.segmenting import answered, until

    from sam_plugins.napari_plugin.widgets.segment import SegmentWidget

    viewer.add_image(leaking())
    viewer.dims.set_point(0, 12)
    widget = SegmentWidget(viewer, load=load)
    controller, segmenter = widget.controller, widget.segmenter
    assert segmenter is not None
    assert not widget.through_stack.controls.params.fuses_axes
    controller.set_follow_params(TRUSTING)
    segmenter.click((12, 20, 16))
    answered(widget)

    def followed() -> tuple[Any, npt.NDArray[np.bool_]]:
        controller.propagate()
        until(lambda: not segmenter.through.follower.is_running)
        (one,) = segmenter.session.state.followed
        mask = np.zeros(BALL.shape, bool)
        for found in one.slices:
            mask[found.plane.index_on(0)] = found.mask.on(Window(0, 0, 40, 36))
        return one, mask

    alone, one_way = followed()
    controller.set_follow_params(replace(TRUSTING, fuses_axes=True))
    voted, three_ways = followed()
    slices = SliceEmbeddings(seeing_model(), Volume(leaking(), limits=(0.0, 255.0)))
    seed = Seed(1, 12, prompts=Prompts.for_object([[16, 20]]))
    expected = propagate_three_axes(slices, [seed], options=TRUSTING.options()).mask(1)
    np.testing.assert_array_equal(three_ways, expected)
    assert not np.array_equal(three_ways, one_way)
    assert iou(three_ways, BALL) > iou(one_way, BALL)
    assert [end.reason for end in voted.ends] == ["two of three axes lead no further"] * 2
    (doubt,) = (one for one in voted.doubts if one.index == 15)
    assert doubt.reason == "the three axes agree on 0.62 of it"
    (prompted,) = (found for found in voted.slices if found.is_prompted)
    assert prompted.mask == next(one.mask for one in alone.slices if one.is_prompted)
    controller.set_follow_params(replace(TRUSTING, fuses_axes=True, first=10, last=14))
    assert [found.plane.index_on(0) for found in followed()[0].slices] == [10, 11, 12, 13, 14]
    controller.close()


def stack(shape: tuple[int, int, int]) -> Stack:
    source = ImageSource([np.broadcast_to(np.uint8(7), shape)])
    sight = look_at(source, Plane((1, 2), (1,)), Window(0, 0, *shape[1:]), contrast="layer")
    return Stack(source, sight, 0, (1.0, 1.0, 1.0))


def test_a_stack_that_is_shown_reduced_is_refused() -> None:
    with pytest.raises(NoStackError, match="where the model sees every pixel"):
        require_fusible(stack((3, 3000, 2500)))


def test_a_stack_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from sam_plugins.model.inference import memory

    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    with pytest.raises(MemoryLimitError, match="switch Fuse three axes off"):
        require_fusible(stack((30, 40, 40)))


def test_films_are_not_fused() -> None:
    assert FollowParams(fuses_axes=True).fuses
    assert not FollowParams(fuses_axes=True, kind="film").fuses
