"""From what people name (files, folders, patterns) to images and the names of their results."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from sam_plugins.cli.results import Job
from sam_plugins.errors import OutputError, UnreadableImageError
from sam_plugins.model.io.images import IMAGE_SUFFIXES, is_image_folder


def find_images(named: str) -> list[Path]:
    """Return the images that one argument stands for, sorted.

    Parameters
    ----------
    named : str
        A file, a Zarr image, a folder (its images, without those below), or a pattern such as
        ``"plate/*.tif"`` (``**`` goes into folders).

    Raises
    ------
    UnreadableImageError
        If there is no such file, a pattern matches nothing, a folder holds no image, or we may not
        look.
    """
    path = Path(named)
    if not _exists(path):  # before the model is loaded for nothing
        if not glob.has_magic(named):
            raise UnreadableImageError(f"cannot read {path}: no such file; check the name")
        # Path.glob takes no absolute pattern
        found = sorted(Path(p) for p in glob.glob(named, recursive=True))  # noqa: PTH207
        if not found:
            raise UnreadableImageError(f"no file matches {named}; check the pattern")
        return found
    try:
        if not path.is_dir() or is_image_folder(path):
            return [path]
        found = sorted(p for p in path.iterdir() if _looks_like_image(p))
    except OSError as error:
        raise _unreadable(path, error) from error
    if not found:
        raise UnreadableImageError(
            f"no image in the folder {path}; expected names ending in {', '.join(IMAGE_SUFFIXES)}"
        )
    return found


def plan_jobs(
    images: Sequence[Path], folder: Path, *, overwrite: bool = False, resume: bool = False
) -> tuple[list[Job], list[tuple[Path, OutputError]]]:
    """Return one job for each image, and the images that would write the same files.

    Parameters
    ----------
    images : sequence of Path
        One that is named twice, however it is spelled, counts once.
    folder : Path
        Folder of the results.
    overwrite, resume : bool
        For :class:`~sam_plugins.cli.results.Job`.

    Returns
    -------
    jobs : list of Job
        Each with names of its own.
    clashes : list of (Path, OutputError)
        Images without a job, with the reason.
    """
    by_name: dict[str, dict[str, Path]] = {}
    for image in images:
        # compared without case: some file systems do not know it
        same_name = by_name.setdefault(result_name(image).casefold(), {})
        same_name.setdefault(os.path.realpath(image), image)
    jobs: list[Job] = []
    clashes: list[tuple[Path, OutputError]] = []
    for same_name in by_name.values():
        rivals = list(same_name.values())
        if len(rivals) == 1:
            jobs.append(Job(rivals[0], result_name(rivals[0]), folder, overwrite, resume))
        else:
            clashes += [(image, _clash(image, rivals)) for image in rivals]
    return jobs, clashes


def _clash(image: Path, rivals: Sequence[Path]) -> OutputError:
    """Return the error for an image whose results would have the names of another's."""
    others = ", ".join(str(rival) for rival in rivals if rival != image)
    return OutputError(
        f"{image} and {others} would both be written as {result_name(image)}_labels.tif; "
        "rename one, or segment them into different folders"
    )


def result_name(image: Path) -> str:
    """Return the name of an image without its ending.

    Examples
    --------
    >>> result_name(Path("plate/a.b.ome.tif"))
    'a.b'
    """
    name = image.name
    for ending in (".ome.tiff", ".ome.tif", ".ome.zarr"):
        if name.lower().endswith(ending) and len(name) > len(ending):
            return name[: -len(ending)]
    return image.stem or name


def _exists(path: Path) -> bool:
    """Return whether there is such a file or folder, as far as we may look."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        if glob.has_magic(str(path)):
            return False
        raise _unreadable(path, error) from error
    return True


def _unreadable(path: Path, error: OSError) -> UnreadableImageError:
    """Return the error for what cannot even be looked at."""
    remedy = "check the name"
    if isinstance(error, PermissionError):
        remedy = "ask its owner for permission, or name pictures elsewhere"
    return UnreadableImageError(f"cannot read {path}: {error.strerror or error}; {remedy}")


def _looks_like_image(path: Path) -> bool:
    """Return whether something in a folder is to be segmented."""
    if path.name.startswith("."):
        return False
    is_named_so = path.suffix.lower() in IMAGE_SUFFIXES
    try:
        return is_image_folder(path) if path.is_dir() else is_named_so
    except OSError:  # we may not look into it: what is named like an image fails by its own name
        return is_named_so
