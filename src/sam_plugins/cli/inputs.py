"""From what people name (files, folders, patterns) to images and the names of their results."""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sam_plugins.errors import OutputError, UnreadableImageError
from sam_plugins.model.io.images import IMAGE_SUFFIXES, is_image_folder

RESULT_ENDINGS = {"labels": "_labels.tif", "overlay": "_overlay.png", "objects": "_objects.json"}


@dataclass(frozen=True)
class Job:
    """One image and where its results go."""

    image: Path
    name: str
    folder: Path

    @property
    def results(self) -> dict[str, Path]:
        """Files of the results by kind."""
        return {kind: self.folder / f"{self.name}{end}" for kind, end in RESULT_ENDINGS.items()}

    def refuse_to_overwrite(self) -> None:
        """Refuse to replace anything but results of ours that nobody has changed.

        Raises
        ------
        OutputError
            If a file exists that may hold somebody's work.
        """
        existing = [path for path in self.results.values() if path.exists()]
        if existing and not self._is_untouched():
            raise OutputError(
                f"{existing[0]} exists and was changed since it was written, or is not ours; "
                "pass --overwrite to replace it, or another folder with -o"
            )

    def _is_untouched(self) -> bool:
        """Return whether the label image is still the one that the table was written for."""
        try:
            table = json.loads(self.results["objects"].read_bytes())
            return bool(table["labels_digest"] == file_digest(self.results["labels"]))
        except (OSError, ValueError, KeyError, TypeError):
            return False


def file_digest(path: Path) -> str:
    """Return a digest by which a changed file is noticed."""
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def find_images(named: str) -> list[Path]:
    """Return the images that one argument stands for, sorted.

    Parameters
    ----------
    named : str
        A file, a Zarr image, a folder (its images, without those below and without results of
        ours), or a pattern such as ``"plate/*.tif"`` (``**`` goes into folders).

    Raises
    ------
    UnreadableImageError
        If there is nothing of that name, or no image in the folder.
    """
    path = Path(named)
    if path.is_dir() and not is_image_folder(path):
        found = sorted(p for p in path.iterdir() if _looks_like_image(p))
        if not found:
            raise UnreadableImageError(
                f"no image in the folder {path}; expected names ending in "
                f"{', '.join(IMAGE_SUFFIXES)}"
            )
        return found
    if not path.exists() and glob.has_magic(named):
        # Path.glob takes no absolute pattern
        matches = [Path(p) for p in glob.glob(named, recursive=True)]  # noqa: PTH207
        found = sorted(p for p in matches if not _is_result(p))
        if not found:
            raise UnreadableImageError(f"no file matches {named}; check the pattern")
        return found
    return [path]


def plan_jobs(images: Sequence[Path], folder: Path) -> list[Job]:
    """Return one job for each image.

    Raises
    ------
    OutputError
        If two images would write the same files.
    """
    jobs: dict[str, Job] = {}
    for image in dict.fromkeys(images):
        name = result_name(image)
        # compared without case: some file systems do not know it
        earlier = jobs.get(name.casefold())
        if earlier is not None:
            raise OutputError(
                f"{earlier.image} and {image} would both be written as {name}_labels.tif; "
                "rename one, or segment them into different folders"
            )
        jobs[name.casefold()] = Job(image, name, folder)
    return list(jobs.values())


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


def _looks_like_image(path: Path) -> bool:
    """Return whether something in a folder is to be segmented."""
    if path.name.startswith(".") or _is_result(path):
        return False
    if path.is_dir():
        return is_image_folder(path)
    return path.suffix.lower() in IMAGE_SUFFIXES


def _is_result(path: Path) -> bool:
    """Return whether a file is a result of ours."""
    return path.name.endswith(tuple(RESULT_ENDINGS.values()))
