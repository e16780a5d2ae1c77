"""Tasks of batches that are still to be predicted when Label Studio has its answer.

Label Studio forgets a batch once it is answered, so a backend that ends would drop the rest. Their
numbers are in a file for each project until the last one is stored. Which of them are stored, the
next backend asks Label Studio, so that nothing is written for each.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from sam_plugins.errors import OutputError
from sam_plugins.labelstudio_backend.logs import LOG
from sam_plugins.model.io.atomic import write_bytes


class Unfinished:
    """What is still to be predicted, of all projects; safe with threads.

    Parameters
    ----------
    folder : Path
        Where it is written down; made when there is something.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._earlier: dict[str, set[str]] = {}
        self._under_way: defaultdict[str, set[str]] = defaultdict(set)
        self._lock = threading.Lock()

    def add(self, project: str, tasks: Collection[str]) -> None:
        """Write down which tasks of a project are under way from now on."""
        with self._lock:
            left = self._left(project)
            left.difference_update(tasks)
            self._under_way[project].update(tasks)
            document = {"project": project, "tasks": sorted(left | self._under_way[project])}
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                write_bytes(self._path(project), json.dumps(document).encode())
            except (OSError, OutputError) as error:
                LOG.warning("what is to be predicted is kept in memory only: %s", error)

    def end(self, project: str, task: str) -> None:
        """Note that a task is stored, or cannot be; the last one takes the file away."""
        with self._lock:
            if project not in self._earlier:  # nothing of it was ever left
                return
            left, under_way = self._earlier[project], self._under_way[project]
            left.discard(task)
            under_way.discard(task)
            if not (left or under_way):
                with contextlib.suppress(OSError):
                    self._path(project).unlink(missing_ok=True)

    def of_earlier(self, project: str) -> list[str]:
        """Return the tasks that an earlier backend left, in the order of their numbers."""
        with self._lock:
            return sorted(self._left(project), key=lambda one: (len(one), one))

    def _left(self, project: str) -> set[str]:
        """Return the same from memory, read at the first time; the lock is held."""
        if project not in self._earlier:
            self._earlier[project] = set()
            with contextlib.suppress(OSError, ValueError, RecursionError, TypeError, KeyError):
                stored = json.loads(self._path(project).read_text(encoding="utf-8"))
                if stored["project"] == project:
                    tasks = {one for one in stored["tasks"] if isinstance(one, str)}
                    self._earlier[project] = tasks
        return self._earlier[project]

    def _path(self, project: str) -> Path:
        """Return the file of a project; the key may hold anything."""
        digest = hashlib.sha256(project.encode("utf-8", "surrogatepass")).hexdigest()
        return self._folder / f"{digest[:24]}.json"
