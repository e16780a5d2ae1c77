"""Whether a TIFF holds all that it promises: decoders fill what is missing with zeros."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import tifffile

from sam_plugins.errors import UnreadableImageError


def refuse_incomplete(
    path: Path, file: tifffile.TiffFile, chosen: Sequence[tifffile.TiffPageSeries]
) -> None:
    """Refuse a TIFF of which a part is missing.

    Parameters
    ----------
    path : Path
        The file.
    file : tifffile.TiffFile
        The opened file.
    chosen : sequence of tifffile.TiffPageSeries
        What will be read of it.

    Raises
    ------
    UnreadableImageError
        If pages that the header promises, files of an OME set, or bytes of a page are missing.
    """
    _refuse_lost_pages(path, file)
    for series in chosen:
        _refuse_lost_planes(path, file, series)
        _refuse_lost_bytes(path, series)


def ome_root(file: tifffile.TiffFile) -> ET.Element | None:
    """Return the OME metadata of a file, or None where there are none that can be parsed."""
    if not file.is_ome or not file.ome_metadata:
        return None
    try:
        # written by a microscope and parsed before by tifffile; entities are not resolved
        return ET.fromstring(file.ome_metadata)  # noqa: S314
    except ET.ParseError:
        return None


def _refuse_lost_pages(path: Path, file: tifffile.TiffFile) -> None:
    """Refuse a file in which a page names another one that is not there."""
    tiff, handle = file.tiff, file.filehandle
    seen: set[int] = set()
    offset = file.pages.first.offset
    while offset != 0 and offset not in seen:
        seen.add(offset)
        try:
            handle.seek(offset)
            (tags,) = struct.unpack(tiff.tagnoformat, handle.read(tiff.tagnosize))
            handle.seek(offset + tiff.tagnosize + tags * tiff.tagsize)
            (offset,) = struct.unpack(tiff.offsetformat, handle.read(tiff.offsetsize))
        except (OSError, struct.error) as error:
            raise _cut_short(path, f"page {len(seen)} is missing") from error


def _refuse_lost_planes(
    path: Path, file: tifffile.TiffFile, series: tifffile.TiffPageSeries
) -> None:
    """Refuse a series with fewer planes than the metadata promise."""
    declared, found = _declared_planes(file, series), len(file.pages)
    # tifffile gives up the metadata, and reads single pages, where too few planes are there
    is_given_up = series.kind in {"generic", "uniform"}
    if (is_given_up and declared > found) or _has_lost_planes(series):
        absent = _absent_files(path, file)
        if absent:
            raise UnreadableImageError(
                f"cannot read {path}: it is one of a set of files, and {', '.join(absent[:3])}"
                f"{' and others' if len(absent) > 3 else ''} cannot be found beside it; "
                "copy all files of the set into one folder, under their own names"
            )
        planes = max(declared, len(series))
        raise _cut_short(path, f"{planes} planes are promised, and not all of them are there")


def _declared_planes(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> int:
    """Return how many pages ImageJ's or OME's metadata promise, 0 where they say nothing."""
    if file.is_imagej and file.imagej_metadata:
        meta = file.imagej_metadata
        counts = [int(meta.get(key, 1)) for key in ("channels", "slices", "frames")]
        samples = series.keyframe.samplesperpixel
        return (math.prod(counts) if max(counts) > 1 else int(meta.get("images", 1))) // samples
    root = ome_root(file)
    pixels = None if root is None else root.find(".//{*}Image/{*}Pixels")
    if pixels is None or (root is not None and root.find("{*}BinaryOnly") is not None):
        return 0
    counts = [int(pixels.get(key, 1)) for key in ("SizeC", "SizeZ", "SizeT")]
    return math.prod(counts) // series.keyframe.samplesperpixel


def _has_lost_planes(series: tifffile.TiffPageSeries) -> bool:
    """Return whether a plane of a series has no page."""
    if series.dataoffset is not None:
        return False  # one block of bytes, which may have a single page
    promised = math.prod(series.shape) // math.prod(series.keyframe.shape)
    try:
        return len(series) < promised or any(page is None for page in series)
    except IndexError:
        return True


def _absent_files(path: Path, file: tifffile.TiffFile) -> list[str]:
    """Return the files of an OME set that are not where they should be."""
    root = ome_root(file)
    if root is None:
        return []
    names = {
        uuid.get("FileName", "")
        for uuid in root.iterfind(".//{*}TiffData/{*}UUID")
        if uuid.text != root.get("UUID")
    }
    is_file = file.filehandle.is_file  # beside what is in memory nothing is looked for
    return sorted(one for one in names if one and not (is_file and (path.parent / one).exists()))


def _refuse_lost_bytes(path: Path, series: tifffile.TiffPageSeries) -> None:
    """Refuse a series whose pixels would lie beyond the end of a file."""
    start = series.dataoffset
    if start is not None:
        size = series.keyframe.parent.filehandle.size
        if start + math.prod(series.shape) * series.dtype.itemsize > size:
            raise _cut_short(path, "it ends before its pixels do")
        return
    for number, page in enumerate(series, start=1):
        if page is not None and _end(page) > page.parent.filehandle.size:
            where = Path(page.parent.filename)
            inside = f" in {where.name}" if where.name != path.name else ""
            raise _cut_short(path, f"pixels of plane {number}{inside} lie beyond the end")


def _end(page: tifffile.TiffPage | tifffile.TiffFrame) -> int:
    """Return where the last byte of a page must be; strips that were left out count nothing."""
    if len(page.dataoffsets) == 0:
        return 0
    if page.is_contiguous:
        return int(page.dataoffsets[0]) + page.nbytes
    offsets = np.asarray(page.dataoffsets, np.uint64)
    counts = np.asarray(page.databytecounts, np.uint64)
    ends = np.where((offsets > 0) & (counts > 0), offsets + counts, 0)
    return int(ends.max(initial=0))


def _cut_short(path: Path, reason: str) -> UnreadableImageError:
    """Return the error for a file of which a part is missing."""
    return UnreadableImageError(
        f"cannot read {path}: {reason}; the file was cut short or damaged, copy or export it again"
    )
