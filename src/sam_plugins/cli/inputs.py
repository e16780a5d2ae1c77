"""From what people name (files, folders, patterns) to images and the names of their results."""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sam_plugins.errors import OutputError, UnreadableImageError
from sam_plugins.model.io.atomic import output_error
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
            If a file exists that may hold somebody's work, or the names cannot be.
        """
        results = self.results
        try:
            existing = [path for path in results.values() if path.exists()]
        except OSError as error:
            raise output_error(results["labels"], error) from error
        if existing and not self._is_untouched():
            raise OutputError(
                f"{existing[0]} exists and was changed since it was written, or is not ours; "
                "pass --overwrite to replace it, or another folder with -o"
            )

    def _is_untouched(self) -> bool:
        """Return whether there is a table of ours, and no label image but the one that it names.

        A machine that stopped while results got their names can have left a table alone.
        """
        digest = _digest_in(self.results["objects"])
        try:
            return digest is not None and digest == file_digest(self.results["labels"])
        except FileNotFoundError:
            return True
        except OSError:
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
        If a pattern matches nothing, a folder holds no image, or we may not look.
    """
    path = Path(named)
    if not _exists(path) and glob.has_magic(named):
        # Path.glob takes no absolute pattern
        matches = [Path(p) for p in glob.glob(named, recursive=True)]  # noqa: PTH207
        found = sorted(p for p in matches if _result_ending(p) is None)
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


def is_own_result(path: Path) -> bool:
    """Return whether a file is a result of ours: a table beside it says so.

    A shell that expands ``*.tif`` names the label images of an earlier run, too.
    """
    ending = _result_ending(path)
    if ending is None:
        return False
    name = path.name.removesuffix(ending)
    return _digest_in(path.with_name(f"{name}{RESULT_ENDINGS['objects']}")) is not None


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
    if path.name.startswith(".") or _result_ending(path) is not None:
        return False
    is_named_so = path.suffix.lower() in IMAGE_SUFFIXES
    try:
        return is_image_folder(path) if path.is_dir() else is_named_so
    except OSError:  # we may not look into it: what is named like an image fails by its own name
        return is_named_so


def _result_ending(path: Path) -> str | None:
    """Return the ending by which a file is named like a result of ours."""
    return next((end for end in RESULT_ENDINGS.values() if path.name.endswith(end)), None)


def _digest_in(table_path: Path) -> str | None:
    """Return the digest of the label image that a table of ours was written for."""
    try:
        digest = json.loads(table_path.read_bytes())["labels_digest"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return digest if isinstance(digest, str) else None
