"""Zarr arrays and OME-Zarr images (NGFF 0.4 in Zarr 2, 0.5 in Zarr 3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import zarr

from sam_plugins.errors import UnreadableImageError, UnusableImageError
from sam_plugins.model.io.opened import OpenImage, checked_axes, decoding, require_level

MARKERS = (".zarray", ".zgroup", "zarr.json")


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a Zarr array or group."""
    return any((path / marker).is_file() for marker in MARKERS)


def open_zarr(path: Path, *, level: int = 0, axes: str | None = None) -> OpenImage:
    """Open a Zarr array or an OME-Zarr image; no pixel is read yet.

    Parameters
    ----------
    path : Path
        The folder of the array or group.
    level : int
        Level of the OME-Zarr pyramid, 0 is the finest.
    axes : str, optional
        Letters of the axes where the metadata do not tell them.

    Raises
    ------
    UnreadableImageError
        If the metadata are damaged, or the group holds no single image.
    UnusableImageError
        If the level does not exist, or the axes are not known.
    """
    with decoding(path):
        node = zarr.open(path, mode="r")
        if isinstance(node, zarr.Array):
            return _opened(path, node, axes or _array_axes(node, path), level)
        metadata: dict[str, Any] = dict(node.attrs)
        ome: dict[str, Any] = metadata.get("ome") or metadata
        if ome.get("multiscales"):
            return _open_multiscales(path, node, ome, level, axes)
        if ome.get("plate"):
            raise UnreadableImageError(
                f"cannot read {path}: it is a plate with many images; name one field, such as "
                f"{path / 'A' / '1' / '0'}"
            )
        if "bioformats2raw.layout" in ome and "0" in node:
            return open_zarr(path / "0", level=level, axes=axes)
        arrays = [name for name, _ in node.arrays()]
        if len(arrays) != 1:
            held = ", ".join(arrays[:10]) or "none"
            raise UnreadableImageError(
                f"cannot read {path}: expected one array or OME-Zarr metadata, "
                f"got the arrays: {held}; name one, such as {path / (arrays or ['0'])[0]}"
            )
        array = node[arrays[0]]
        return _opened(path, array, axes or _array_axes(array, path), level)


def _open_multiscales(
    path: Path,
    group: Any,  # noqa: ANN401
    ome: dict[str, Any],
    level: int,
    axes: str | None,
) -> OpenImage:
    """Open one level of an OME-Zarr pyramid."""
    image = ome["multiscales"][0]
    levels = [dataset["path"] for dataset in image["datasets"]]
    if not levels:
        raise UnreadableImageError(
            f"cannot read {path}: its metadata name no array (datasets is empty); write it again"
        )
    require_level(level, len(levels), path)
    array = group[levels[level]]
    named = [a["name"] if isinstance(a, dict) else a for a in image.get("axes") or []]
    # NGFF 0.1 and 0.2 had no axes: always tczyx
    letters = "".join(str(name)[:1] for name in named) or "TCZYX"[-len(array.shape) :]
    # some writers put null where there is nothing to say
    channels = (ome.get("omero") or {}).get("channels") or []
    names = tuple(str((channel or {}).get("label") or "") for channel in channels)
    return OpenImage(
        path=path,
        pixels=array,
        axes=checked_axes(axes or letters, array.shape, path),
        channel_names=names if all(names) else (),
        levels=len(levels),
    )


def _opened(path: Path, array: Any, axes: str, level: int) -> OpenImage:  # noqa: ANN401
    """Open a plain array, which has one level."""
    require_level(level, 1, path)
    return OpenImage(path=path, pixels=array, axes=checked_axes(axes, array.shape, path))


def _array_axes(array: Any, path: Path) -> str:  # noqa: ANN401
    """Return the axes of a plain array: named ones (xarray, Zarr 3), else the usual order."""
    named = array.attrs.get("_ARRAY_DIMENSIONS") or getattr(array.metadata, "dimension_names", None)
    if named and all(named) and {"y", "x"} <= {str(name)[0].lower() for name in named}:
        return "".join(str(name)[0] for name in named)
    shape = array.shape
    if len(shape) == 2:
        return "YX"
    if len(shape) == 3:
        if shape[2] <= 4:
            return "YXS"
        return "CYX" if shape[0] <= 4 else "ZYX"
    raise UnusableImageError(
        f"{path} has the shape {shape} and does not name its axes; give them, such as axes='TCZYX'"
    )
