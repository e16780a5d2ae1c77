"""A real picture of many small objects: a row of coins, longer than what the model sees."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import skimage.data
from PIL import Image

REDUCED, WHOLE = 6, 5
"""How often the row is repeated: 1,152 pixels, which the shipped model sees reduced, and 960."""


def row_of_coins(times: int) -> npt.NDArray[np.uint8]:
    """Return coins of some 20 pixels, repeated every 192 pixels."""
    row = Image.fromarray(skimage.data.coins()[8:88])
    return np.tile(np.asarray(row.resize((192, 40), Image.Resampling.BOX)), (1, times))
