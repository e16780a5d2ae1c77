"""One encoding, many clicks: a first click, then a correction that builds on the first answer."""

from __future__ import annotations

import numpy as np
import skimage.data

import sam_plugins

image = skimage.data.coins()
model = sam_plugins.load_model("default")
embedding = sam_plugins.encode_image(model, image)  # the slow part, once per picture

first = sam_plugins.predict_masks(
    model,
    embedding,
    sam_plugins.Prompts(
        points_xy=np.array([[[105.0, 44.0]]], np.float32),  # one object, one click
        point_labels=np.array([[1]]),
    ),
)
best = int(np.argmax(first.iou_predictions[0]))
print(
    f"one click: {int(first.masks[0, best].sum())} pixels, IoU {first.iou_predictions[0, best]:.2f}"
)

corrected = sam_plugins.predict_masks(
    model,
    embedding,
    sam_plugins.Prompts(
        points_xy=np.array([[[105.0, 44.0], [105.0, 78.0]]], np.float32),
        point_labels=np.array([[1, 0]]),  # on the object, beside it
        mask_logits=first.low_res_logits[:, best : best + 1],  # go on from the first answer
    ),
)
best = int(np.argmax(corrected.iou_predictions[0]))
print(
    f"corrected: {int(corrected.masks[0, best].sum())} pixels, "
    f"IoU {corrected.iou_predictions[0, best]:.2f}"
)
