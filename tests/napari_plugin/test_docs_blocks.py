"""The block of the page about volumes in napari runs in a real window."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.gui
pytest.importorskip("napari")

from tests.docs.pages import Block, blocks  # noqa: E402
from tests.napari_plugin.segmenting import answered, load, until  # noqa: E402

from sam_plugins.napari_plugin.widgets.segment import SegmentWidget  # noqa: E402


def test_the_script_of_the_page_about_volumes(viewer: Any) -> None:
    page = "docs/how-to/napari-volumes.md"
    click, follow, look = (one for one in blocks("python") if one.page == page)
    names: dict[str, Any] = {}

    def run(block: Block) -> None:
        exec(compile(block.text, str(block), "exec"), names)

    z, y, x = np.ogrid[:22, :50, :60]
    ball = ((z - 18) * 3) ** 2 + (y - 40) ** 2 + (x - 25) ** 2 < 10**2
    viewer.add_image(np.where(ball, 200, 30).astype(np.uint8))
    widget = SegmentWidget(viewer, load=load)
    controller = widget.controller
    controller.set_follow_params(type(controller.follow_params)(encodes_ahead=False))
    viewer.window.add_dock_widget(widget, name="Segment")
    try:
        names["widget"] = widget
        run(click)
        answered(widget)
        run(follow)
        until(lambda: controller.segmenter.session.state.followed)
        run(look)
        assert viewer.dims.current_step[0] == 12
    finally:
        controller.close()
