"""Make the picture of Label Studio's editor in the docs: a real click in a real server.

Usage: ``SAM_PLUGINS_TEST_LABEL_STUDIO=$(scripts/setup_label_studio.sh) python
scripts/make_label_studio_picture.py PICTURE X Y``, with playwright and a Chromium
(``SAM_PLUGINS_TEST_CHROMIUM``); the docs show scikit-image's ``cell.png`` at 427 373. It does what
``docs/how-to/label-studio.md`` says, with that page's first config, and ends with an error where a
step does not do what the page says.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from tests.labelstudio_backend.browser import (  # noqa: E402
    ACCEPT,
    choose_tool,
    in_window,
    logged_in,
    open_task,
    paste_config,
)
from tests.labelstudio_backend.server import TOKEN, running  # noqa: E402
from tests.labelstudio_backend.serving import served  # noqa: E402

from sam_plugins.labelstudio_backend.app import create_app  # noqa: E402
from sam_plugins.labelstudio_backend.service import Service  # noqa: E402
from sam_plugins.labelstudio_backend.settings import Settings  # noqa: E402
from sam_plugins.model.io.images import read_image  # noqa: E402

GUIDE = REPOSITORY / "docs" / "how-to" / "label-studio.md"
OUTPUT = REPOSITORY / "docs" / "images" / "label-studio-suggestion.png"
_SETTLED_MILLISECONDS = 1500


def main() -> int:
    """Make the picture; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", type=Path)
    parser.add_argument("x", type=int, help="where to click, in pixels of the picture")
    parser.add_argument("y", type=int)
    args = parser.parse_args()
    config = re.findall(r"```xml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)[0]
    size_hw = np.zeros(read_image(args.picture).shape[:2], bool)
    with (
        tempfile.TemporaryDirectory() as place,
        running(Path(place) / "data") as server,
        logged_in(server) as page,
    ):
        settings = Settings(
            url=server.url, api_key=TOKEN, folder=Path(place) / "backend", automatic=False
        )
        service = Service(settings)
        project = server.make_project("<View></View>", "Cells")["id"]
        (task,) = server.upload(project, [args.picture])
        paste_config(page, server, project, config)
        with served(create_app(settings, service=service)) as url:
            server.connect(project, url)
            where = open_task(page, server, project, task)
            choose_tool(page, "key-point-tool")
            page.keyboard.press("1")
            page.mouse.click(*in_window(where, size_hw, args.x + 0.5, args.y + 0.5))
            page.get_by_test_id(ACCEPT).wait_for()
            page.wait_for_timeout(_SETTLED_MILLISECONDS)
            page.screenshot(path=str(OUTPUT))
        service.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
