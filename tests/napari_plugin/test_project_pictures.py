"""Labelled slices and done pictures become pictures of a project: each once, with its labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from sam_plugins.errors import ProjectError
from sam_plugins.model.engine.project.project import Project
from sam_plugins.napari_plugin.folder import PictureFolder
from sam_plugins.napari_plugin.images import ImageSource
from sam_plugins.napari_plugin.jobs import JobCancelled, JobProgress
from sam_plugins.napari_plugin.project_pictures import (
    LabelledPicture,
    add_folder_to_project,
    add_picture_to_project,
    add_stack_to_project,
    picture_of,
)


def quiet() -> JobProgress:
    return JobProgress(lambda kind, value: None)


def noise(*shape: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, shape, np.uint8)


def label_images(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """Return what training would read, by the names of the pictures."""
    with Project.open(folder) as project:
        return {one.path.stem: project.labels.label_image(one.image_id) for one in images(folder)}


def images(folder: Path) -> list[Any]:
    with Project.open(folder) as project:
        return project.labels.images()


def stack() -> tuple[ImageSource, npt.NDArray[np.uint32]]:
    """Return eight slices, of which three have an object."""
    labels = np.zeros((8, 32, 32), np.uint32)
    labels[0, 4:9, 4:9] = 5
    labels[3, 6:12, 6:12] = 5
    labels[7, 20:30, 2:12] = 9
    return ImageSource([noise(8, 32, 32)]), labels


def test_all_labelled_slices_are_added_once(tmp_path: Path) -> None:
    source, labels = stack()

    def add() -> Any:
        return add_stack_to_project(
            tmp_path, "mine", source, labels, "cells", is_complete=False, progress=quiet()
        )

    added = add()
    assert (added.new, added.known) == (3, 0)
    found = label_images(tmp_path)
    assert set(found) == {"cells-0", "cells-3", "cells-7"}
    np.testing.assert_array_equal(found["cells-3"] > 0, labels[3] > 0)
    assert {(one.path.stem, one.group) for one in images(tmp_path)} == {
        ("cells-0", "cells part 1"),
        ("cells-3", "cells part 2"),
        ("cells-7", "cells part 4"),
    }
    assert added.project.can_train

    labels[3, 6:12, 12:14] = 5  # painted on
    labels[5, 1:5, 1:5] = 2
    added = add()
    assert (added.new, added.known) == (1, 3)
    assert str(added) == "1 pictures added, 3 that the project had are up to date"
    assert added.project.objects == 4
    np.testing.assert_array_equal(label_images(tmp_path)["cells-3"] > 0, labels[3] > 0)


def test_a_slice_that_was_added_alone_is_not_added_again(tmp_path: Path) -> None:
    source, labels = stack()
    one = picture_of(source, labels, (3,), "cells", is_complete=False)
    add_picture_to_project(tmp_path, "mine", one, progress=quiet())
    added = add_stack_to_project(
        tmp_path, "mine", source, labels, "cells", is_complete=False, progress=quiet()
    )
    assert (added.new, added.known) == (2, 1)
    assert len(list((tmp_path / "pictures").iterdir())) == 3


def test_another_picture_of_the_same_name_leaves_the_first_alone(tmp_path: Path) -> None:
    labels = np.zeros((32, 32), np.uint8)
    labels[3:9, 3:9] = 1
    for seed in range(2):
        one = LabelledPicture("cells", noise(32, 32, seed=seed), labels, is_complete=True)
        add_picture_to_project(tmp_path, "mine", one, progress=quiet())
    with Project.open(tmp_path) as project:
        for seed, record in enumerate(project.labels.images()):
            read = project.labels.read_image(record.image_id)
            np.testing.assert_array_equal(read, noise(32, 32, seed=seed))


def test_what_was_added_before_a_cancel_stays(tmp_path: Path) -> None:
    source, labels = stack()
    progress = JobProgress(lambda kind, value: None)

    class Objects:
        def __getitem__(self, at: Any) -> Any:
            if at == (5,):
                progress.cancel()
            return labels[at]

        shape = labels.shape

    with pytest.raises(JobCancelled):
        add_stack_to_project(
            tmp_path, "mine", source, Objects(), "cells", is_complete=False, progress=progress
        )
    assert set(label_images(tmp_path)) == {"cells-0", "cells-3"}
    assert all(one.split is not None for one in images(tmp_path))


def test_done_pictures_of_a_folder_are_added_as_complete(tmp_path: Path) -> None:
    pictures, project = tmp_path / "pictures", tmp_path / "project"
    pictures.mkdir()
    for number in range(3):
        tifffile.imwrite(pictures / f"flat{number}.tif", noise(32, 32, seed=number))
    tifffile.imwrite(
        pictures / "stack.tif",
        noise(4, 32, 32, seed=9),
        photometric="minisblack",
        metadata={"axes": "ZYX"},
    )
    folder = PictureFolder(pictures)
    with pytest.raises(ProjectError, match=r"no picture of .* is done"):
        add_folder_to_project(project, "mine", pictures, progress=quiet())
    flat = np.zeros((32, 32), np.uint32)
    flat[4:10, 4:10] = 3
    deep = np.zeros((4, 32, 32), np.uint32)
    deep[2, 5:15, 5:15] = 1
    folder.write_labels(0, flat)
    folder.write_labels(2, flat)
    folder.write_labels(3, deep)
    for index in (0, 1, 3):  # in 1 there is nothing to label, 2 is only begun
        folder.set_done(index, True)
    added = add_folder_to_project(project, "mine", pictures, progress=quiet())
    assert (added.new, added.known) == (3, 0)
    found = label_images(project)
    assert set(found) == {"flat0", "flat1", "stack-2"}
    np.testing.assert_array_equal(found["flat0"] > 0, flat > 0)
    assert all(one.is_complete for one in images(project))
    added = add_folder_to_project(project, "mine", pictures, progress=quiet())
    assert (added.new, added.known) == (0, 3)


def test_a_stack_without_objects_is_refused(tmp_path: Path) -> None:
    source, labels = stack()
    with pytest.raises(ProjectError, match="no slice of cells has an object"):
        add_stack_to_project(
            tmp_path, "mine", source, labels * 0, "cells", is_complete=True, progress=quiet()
        )
    one = picture_of(source, labels, (1,), "cells", is_complete=False)
    with pytest.raises(ProjectError, match="no object to learn from"):
        add_picture_to_project(tmp_path, "mine", one, progress=quiet())
    assert not (tmp_path / "project.sqlite").exists()
