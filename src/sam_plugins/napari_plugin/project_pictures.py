"""Labelled pictures of a viewer or a folder become pictures of a project; no Qt in it.

The project keeps copies, which are known by their pixels: what it has already is not added again,
its labels are brought up to date.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sam_plugins.errors import ProjectError
from sam_plugins.napari_plugin.images import ImageSource, look_at
from sam_plugins.napari_plugin.session.planes import Plane, Window
from sam_plugins.napari_plugin.shown import show_model
from sam_plugins.napari_plugin.training import ProjectSummary, open_project, summarise

if TYPE_CHECKING:
    from sam_plugins.model.engine.label_store import ImageRecord
    from sam_plugins.model.engine.project.project import Project
    from sam_plugins.napari_plugin.folder import PictureFolder
    from sam_plugins.napari_plugin.jobs import JobProgress

_PARTS = 4
"""Into so many parts a stack is divided that are learned from or measured on as a whole."""


@dataclass(frozen=True, eq=False)
class LabelledPicture:
    """A picture and its labels as they are now.

    Parameters
    ----------
    name : str
        Of the file that is written.
    pixels : ndarray of shape (H, W) or (H, W, 3)
    labels : ndarray of shape (H, W), integer
    is_complete : bool
        Whether every visible object is labelled; otherwise what has no label is not background.
    group : str, optional
        Pictures of a group are all learned from, or all measured on.
    """

    name: str
    pixels: npt.NDArray[Any]
    labels: npt.NDArray[Any]
    is_complete: bool
    group: str | None = None


@dataclass(frozen=True)
class AddedPictures:
    """What adding many pictures came to.

    Parameters
    ----------
    new, known : int
        Pictures that the project did not have, and those whose labels were brought up to date.
    project : ProjectSummary
    """

    new: int
    known: int
    project: ProjectSummary

    def __str__(self) -> str:
        """Say it in a line."""
        known = f", {self.known} that the project had are up to date" if self.known else ""
        return f"{self.new} pictures added{known}"


def picture_of(
    source: ImageSource,
    objects: Any,  # noqa: ANN401
    at: tuple[int, ...],
    name: str,
    *,
    is_complete: bool,
) -> LabelledPicture:
    """Return a plane of an image with its labels.

    Slices of a stack that lie near each other are nearly the same picture, so that each quarter of
    it is a group.

    Parameters
    ----------
    source : ImageSource
    objects : array
        Labels of its shape.
    at : tuple of int
        Where the plane, of the last two axes, lies on the others.
    name : str
        Of the image.
    is_complete : bool
    """
    plane = Plane((len(at), len(at) + 1), at)
    window = Window(0, 0, *plane.size_hw(source.shape))
    if source.channel_axis is not None:
        pixels = show_model(source, look_at(source, plane, window))
    else:
        pixels = np.asarray(source.levels[0][plane.index(window)])
        pixels = pixels[..., :3] if source.is_rgb else pixels
    place = "".join(f"-{value}" for value in at)
    stem = re.sub(r"[^\w.-]+", "-", f"{name}{place}").strip("-") or "picture"
    along = [(index, n) for index, n in zip(at, source.shape[:-2], strict=True) if n > 1]
    group = f"{name} part {along[0][0] * _PARTS // along[0][1] + 1}" if along else None
    return LabelledPicture(stem, pixels, np.array(plane.take(objects)), is_complete, group)


def add_picture_to_project(
    folder: Path, name: str, picture: LabelledPicture, *, progress: JobProgress
) -> ProjectSummary:
    """Copy a picture into a project, with its labels.

    Parameters
    ----------
    folder : Path
        Of the project; made where there is none.
    name : str
        Of the project and its models.
    picture : LabelledPicture
    progress : JobProgress

    Raises
    ------
    ProjectError
        If the labels hold no object.
    """
    if not picture.is_complete and not np.any(picture.labels):
        raise ProjectError(
            "there is no object to learn from: commit some in Segment first, or say that every "
            "object is labelled"
        )
    with open_project(folder, name) as project:
        progress.check()
        _put(project, picture)
        project.divide()
        return summarise(project)


def add_stack_to_project(
    folder: Path,
    name: str,
    source: ImageSource,
    objects: Any,  # noqa: ANN401
    image_name: str,
    *,
    is_complete: bool,
    progress: JobProgress,
) -> AddedPictures:
    """Copy every plane of an image that has objects into a project; cancelled, some of them.

    Parameters
    ----------
    folder, name
        As for :func:`add_picture_to_project`.
    source : ImageSource
    objects : array
        Labels of its shape.
    image_name : str
    is_complete : bool
        Whether every visible object of those planes is labelled.
    progress : JobProgress
        Told of planes done and all planes.

    Raises
    ------
    ProjectError
        If no plane has an object.
    """
    pictures = _labelled_planes(source, objects, image_name, is_complete, progress)
    return _add_all(
        folder,
        name,
        pictures,
        f"no slice of {image_name} has an object: commit some in Segment or Automatic first",
    )


def add_folder_to_project(
    folder: Path, name: str, labelled: Path, *, progress: JobProgress
) -> AddedPictures:
    """Copy every picture of a folder that is done into a project; cancelled, some of them.

    Every object of a picture that is done is labelled. Of stacks the planes with objects are added.

    Parameters
    ----------
    folder, name
        As for :func:`add_picture_to_project`.
    labelled : Path
        Of the pictures that were labelled in **Folder**.
    progress : JobProgress
        Told of pictures done and all pictures that are.

    Raises
    ------
    ProjectError
        If no picture is done.
    DatasetError, ImageError, MemoryLimitError
        If the folder or a picture cannot be read.
    """
    from sam_plugins.napari_plugin.folder import PictureFolder

    return _add_all(
        folder,
        name,
        _done_pictures(PictureFolder(labelled), progress),
        f"no picture of {labelled} is done: label some in Folder, and press Done there",
    )


def _labelled_planes(
    source: ImageSource,
    objects: Any,  # noqa: ANN401
    name: str,
    is_complete: bool,
    progress: JobProgress | None = None,
) -> Iterator[LabelledPicture]:
    """Yield the planes of an image that have objects."""
    lengths = source.shape[:-2]
    total = int(np.prod(lengths, dtype=np.int64))
    for done, at in enumerate(itertools.product(*map(range, lengths))):
        if progress is not None:
            progress(done, total)
        if np.any(np.asarray(objects[at])):
            yield picture_of(source, objects, at, name, is_complete=is_complete)
    if progress is not None:
        progress(total, total)


def _done_pictures(pictures: PictureFolder, progress: JobProgress) -> Iterator[LabelledPicture]:
    """Yield what is done in a folder."""
    from sam_plugins.napari_plugin.folder import PictureState

    done = [index for index in range(len(pictures)) if pictures.state(index) is PictureState.DONE]
    for number, index in enumerate(done):
        progress(number, len(done))
        loaded = pictures.load(index, lambda *_: progress.check())
        source, stem = loaded.layer.source, pictures.paths[index].stem
        if len(source.shape) > 2:
            if loaded.labels is not None:
                yield from _labelled_planes(source, loaded.labels, stem, True)
            continue
        labels = np.zeros(source.shape, np.uint32) if loaded.labels is None else loaded.labels
        yield picture_of(source, labels, (), stem, is_complete=True)
    progress(len(done), len(done))


def _add_all(
    folder: Path, name: str, pictures: Iterator[LabelledPicture], nothing: str
) -> AddedPictures:
    """Copy pictures into a project, which is whole after each of them."""
    first = next(pictures, None)
    if first is None:
        raise ProjectError(nothing)
    with open_project(folder, name) as project:
        known = {one.image_id for one in project.labels.images()}
        new, before = 0, set()
        try:
            for picture in itertools.chain([first], pictures):
                image_id = _put(project, picture).image_id
                new += image_id not in known
                before |= {image_id} & known
        finally:
            project.divide()
        return AddedPictures(new, len(before), summarise(project))


def _put(project: Project, picture: LabelledPicture) -> ImageRecord:
    """Copy a picture into a project, unless it is there, and bring its labels."""
    from sam_plugins.model.engine.label_store import ImageSource as StoredSource
    from sam_plugins.model.engine.project.labelling import Person, bring_label_image
    from sam_plugins.model.engine.project.state import user_name

    path, is_new = _copy(project.folder / "pictures", picture)
    (record,) = project.labels.add_images([StoredSource(path, group=picture.group)])
    if is_new and record.path != path.absolute():
        path.unlink()  # the project has it under another name, or where it was imported from
    bring_label_image(project, record, picture.labels, Person(user_name()))
    project.labels.set_complete(record.image_id, picture.is_complete)
    return record


def _copy(folder: Path, picture: LabelledPicture) -> tuple[Path, bool]:
    """Write a picture where no other one lies, and return where, and whether it was not there."""
    import tifffile

    from sam_plugins.model.io.atomic import make_folder, write_bytes

    buffer = io.BytesIO()
    colours = "rgb" if picture.pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(buffer, picture.pixels, photometric=colours)
    make_folder(folder)
    for number in itertools.count(1):
        path = folder / (picture.name + ("" if number == 1 else f"-{number}") + ".tif")
        if not path.exists():
            write_bytes(path, buffer.getvalue())
            return path, True
        if path.read_bytes() == buffer.getvalue():
            return path, False
    raise AssertionError
