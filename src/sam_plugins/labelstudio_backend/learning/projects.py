"""The folders of Label Studio's projects: each is a project of the data engine."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from sam_plugins.errors import LearningError, ProjectError
from sam_plugins.labelstudio_backend.learning.keys import key_of, model_name_of
from sam_plugins.labelstudio_backend.learning.settings import LearningSettings
from sam_plugins.model.io.atomic import make_folder

if TYPE_CHECKING:
    from sam_plugins.labelstudio_backend.learning.pictures import FetchPicture, Pictures
    from sam_plugins.model.engine.project.project import Project

_PROJECTS = "projects"
_STATE = "project.sqlite"


class ProjectFolders:
    """The projects of one backend, under its state folder.

    What lies there opens as any project of the data engine: ``sam-plugins engine status FOLDER``
    works on it, and napari labels in it.

    Parameters
    ----------
    settings : LearningSettings
    """

    def __init__(self, settings: LearningSettings) -> None:
        self._settings = settings
        self._root = settings.folder.absolute() / _PROJECTS

    def folder_of(self, key: str) -> Path:
        """Return the folder of a project; it may not exist yet.

        Raises
        ------
        LearningError
            If that is no key of a project.
        """
        if key_of(key) is None:
            raise LearningError(
                f"a project is named ID or ID.CREATED, as Label Studio names it, got {key!r}"
            )
        return self._root / key

    def is_there(self, key: str) -> bool:
        """Return whether a project has its folder; errors as for :meth:`folder_of`."""
        return (self.folder_of(key) / _STATE).exists()

    def open(self, key: str) -> Project:
        """Open a project, made where it is missing.

        Raises
        ------
        ProjectError
            If it is damaged or cannot be written.
        """
        from sam_plugins.model.engine.project.project import Project, ProjectSettings

        folder = self.folder_of(key)
        make_folder(self._root)
        try:
            return Project.open(folder)
        except ProjectError:
            if self.is_there(key):
                raise
        settings = ProjectSettings(
            model_name_of(key), self._settings.model, self._settings.held_out_share
        )
        return Project.create(folder, settings)

    def pictures(self, key: str, task: int, fetch: FetchPicture) -> Pictures:
        """Return the pictures of a project, fetched for one of its tasks."""
        from sam_plugins.labelstudio_backend.learning.pictures import Pictures

        return Pictures(self.folder_of(key) / "pictures", functools.partial(fetch, key, task))
