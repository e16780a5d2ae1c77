"""Drawings that say what the package is made of name all of it."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from tests.docs.pages import REPOSITORY

PACKAGE = REPOSITORY / "src" / "sam_plugins"
DRAWING = REPOSITORY / "docs" / "images" / "architecture.svg"
PAGE = REPOSITORY / "docs" / "explanation" / "architecture.md"
FRONT_ENDS = {"cli", "labelstudio_backend", "napari_plugin"}


def folders() -> set[str]:
    """Return the rooms of the model."""
    return {path.parent.name for path in (PACKAGE / "model").glob("*/__init__.py")}


def test_the_architecture_is_drawn_with_every_room_and_no_other() -> None:
    texts = ET.parse(DRAWING).getroot().iter("{http://www.w3.org/2000/svg}text")
    names = {text.text for text in texts if text.get("class") in {"name", "title"}}
    assert {"engine", "large", "cluster"} <= folders()
    assert names == folders() | FRONT_ENDS | {"model", "errors"}
    assert "planned" not in DRAWING.read_text("utf-8")


def test_the_page_tells_of_every_room() -> None:
    told = re.findall(r"^`(\w+)`\n: ", PAGE.read_text("utf-8"), re.MULTILINE)
    assert folders() <= {*told}
