"""What tells the results of one request from those of another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_plugins import __version__

if TYPE_CHECKING:
    from sam_plugins.cli.segment_jobs import Order


def request_of(image: Path, order: Order, model_id: str) -> str:
    """Return a digest of all that decides the results of a picture.

    Parameters
    ----------
    image : Path
        Of which size and time of the last change count, and not the contents.
    order : Order
    model_id : str
        Name and digest of the weights.
    """
    parts: dict[str, Any] = {
        "image": state_of(image),
        "model": model_id,
        "software": __version__,
        "backend": order.running.backend,
        "mode": order.mode,
        "prompts": repr(order.prompts),
        "view": repr(order.view),
        "tiles": repr(order.choice),
    }
    if order.wanted:
        files = [*order.wanted.exemplars.mask_files, order.wanted.like_in]
        parts["exemplars"] = repr(
            (order.wanted.exemplars.points_xy, order.wanted.exemplars.boxes_xyxy)
        )
        parts["min_score"] = order.wanted.exemplars.min_score
        parts["files"] = [state_of(Path(file)) for file in files if file is not None]
        parts["text"] = repr(order.wanted.text)
    return digest_of(parts)


def digest_of(parts: Mapping[str, Any]) -> str:
    """Return a digest of values for JSON."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def state_of(path: Path) -> str:
    """Return what changes with a file, or with any file in the folder of a Zarr image."""
    from sam_plugins.model.large.sources import FileSource

    described = FileSource(str(path)).described()
    return f"{described['path']} {described['files']}"
