"""A picture to labels and scores, in five lines."""

from __future__ import annotations

import skimage.data

import sam_plugins

found = sam_plugins.segment(skimage.data.coins())
print(f"{len(found.scores)} objects in {found.labels.shape[1]} x {found.labels.shape[0]} pixels")
for label, (score, area) in enumerate(zip(found.scores, found.areas, strict=True), start=1):
    print(f"object {label:2d}: score {score:.2f}, {area} pixels")
