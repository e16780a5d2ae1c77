"""A program for segment_anything, with only the import changed.

Run it with an official checkpoint, ``python from_segment_anything.py sam_vit_b_01ec64.pth``, or
without one for the shipped model.
"""

from __future__ import annotations

import sys

import numpy as np
import skimage.data

from sam_plugins import SamPredictor, sam_model_registry

image = skimage.data.astronaut()
if len(sys.argv) > 1:
    sam = sam_model_registry["vit_b"](checkpoint=sys.argv[1])
else:
    sam = sam_model_registry["default"]()

predictor = SamPredictor(sam)
predictor.set_image(image)
masks, scores, logits = predictor.predict(
    point_coords=np.array([[220, 100]]), point_labels=np.array([1]), multimask_output=True
)
for mask, score in zip(masks, scores, strict=True):
    print(f"{int(mask.sum())} pixels, predicted IoU {score:.2f}")
