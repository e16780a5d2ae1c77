"""Put the demo's picture and its result side by side, for the README.

Usage: ``python scripts/make_demo_picture.py demo-output`` after ``make demo``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

REPOSITORY = Path(__file__).resolve().parent.parent


def main(folder: Path) -> None:
    """Write ``docs/images/demo.png``, twice as large as the picture."""
    picture = Image.open(REPOSITORY / "src/sam_plugins/data/ihc_colon.png").convert("RGB")
    overlay = Image.open(folder / "ihc_colon_overlay.png").convert("RGB")
    width, height = picture.size
    both = Image.new("RGB", (4 * width + 16, 2 * height), "white")
    for image, left in ((picture, 0), (overlay, 2 * width + 16)):
        both.paste(image.resize((2 * width, 2 * height), Image.Resampling.LANCZOS), (left, 0))
    both.save(REPOSITORY / "docs/images/demo.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
