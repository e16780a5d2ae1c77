"""Check that a wheel holds what an installed package needs, and is no larger than promised.

Usage: ``python scripts/check_wheel.py dist/sam_plugins-*.whl``
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

SHIPPED_MODEL = "sam_plugins/model/weights/default/default.safetensors"
REQUIRED = (
    "sam_plugins/__init__.py",
    "sam_plugins/py.typed",
    "sam_plugins/napari_plugin/__init__.py",
    "sam_plugins/labelstudio_backend/__init__.py",
    "sam_plugins/data/ihc_colon.png",  # the picture of `sam-plugins demo`
    "sam_plugins/data/README.md",  # where it comes from
    SHIPPED_MODEL,
)
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
MAX_WEIGHTS_MIB = 25.0


def complaints(path: Path) -> list[str]:
    """Return what is wrong with the wheel at ``path``, one sentence each."""
    with zipfile.ZipFile(path) as wheel:
        sizes = {info.filename: info.file_size for info in wheel.infolist()}
    found = [f"{name} is missing" for name in REQUIRED if name not in sizes]
    if not any(name.endswith("/licenses/LICENSE") for name in sizes):
        found.append("the licence is missing")
    weights = {name: size for name, size in sizes.items() if name.endswith(WEIGHT_SUFFIXES)}
    found += [f"{name} is no model that we ship" for name in weights if name != SHIPPED_MODEL]
    mib = sum(weights.values()) / 2**20
    if mib > MAX_WEIGHTS_MIB:
        found.append(
            f"the shipped weights take {mib:.1f} MiB, at most {MAX_WEIGHTS_MIB:g} MiB are promised"
        )
    found += [
        f"{name} does not belong into a wheel"
        for name in sizes
        if name.startswith(("tests/", "docs/"))
    ]
    return found


def main(argv: list[str]) -> int:
    """Print what is wrong with each wheel named; return 1 if anything is."""
    if not argv:
        print(__doc__)
        return 2
    status = 0
    for path in map(Path, argv):
        wrong = complaints(path)
        status |= bool(wrong)
        print(
            f"{path.name}: {path.stat().st_size / 2**20:.1f} MiB,", "; ".join(wrong) or "complete"
        )
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
