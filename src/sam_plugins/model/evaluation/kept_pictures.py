"""What was measured of each picture, kept on the disk until the report of all is written.

For every picture there is a file of its scores, and one of what there is to see where that was
drawn. A file begins with a digest of the rest, so that one that was cut off counts as missing.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sam_plugins.errors import OutputError
from sam_plugins.model.evaluation.gallery import DrawnPanels
from sam_plugins.model.evaluation.plain_scores import from_plain, to_plain
from sam_plugins.model.evaluation.run_task import Measure, Seen, see
from sam_plugins.model.evaluation.tasks.task import Task
from sam_plugins.model.io.atomic import atomic_path, make_folder
from sam_plugins.model.io.labelled import LabelledSource
from sam_plugins.model.io.leftovers import remove_leftovers

_FOLDER = "measured.work"
_SCORES, _PANELS = ".scores", ".panels"


class KeptPictures:
    """The pictures of one task that were measured, in this run or an earlier one.

    Parameters
    ----------
    report_folder : Path
        Of the report; a folder of its own within is made when the first picture is measured.
    task : Task
    requests : sequence of str
        For each picture a digest of all that decides what is measured of it, as a name of a file.
    on_trouble : callable
        Told once where nothing can be kept: the measuring goes on.

    Attributes
    ----------
    folder : Path
        Where pictures are kept.
    waiting : list of int
        Places of the pictures that no earlier run has measured.
    earlier_seconds : float
        What earlier runs took for the pictures that were taken from them so far.
    """

    def __init__(
        self,
        report_folder: Path,
        task: Task,
        requests: Sequence[str],
        on_trouble: Callable[[OutputError], None],
    ) -> None:
        self.folder = report_folder / _FOLDER
        self.earlier_seconds = 0.0
        self._task = task
        self._requests = requests
        self._on_trouble = on_trouble
        self._is_in_trouble = False
        self._since = time.perf_counter()
        remove_leftovers(self.folder)
        self.waiting = [
            index for index, name in enumerate(requests) if self._text(name, _SCORES) is None
        ]

    def measuring(self, measure: Measure) -> Measure:
        """Return what measures the pictures that wait, and yields all of them in their order.

        Parameters
        ----------
        measure : callable
            Measures pictures; gets those that wait.
        """

        def each(
            files: Sequence[LabelledSource],
        ) -> Iterator[tuple[LabelledSource, Callable[[], Seen]]]:
            waiting = set(self.waiting)
            fresh = iter(measure([files[index] for index in self.waiting]))
            self._since = time.perf_counter()
            for index, (file, name) in enumerate(zip(files, self._requests, strict=True)):
                if index in waiting:
                    _, look = next(fresh)
                    yield file, partial(self._measured, name, look)
                else:
                    yield file, partial(self._found, name, file)
            for _ in fresh:  # lets it end what it has begun, such as a progress bar
                raise ValueError(f"expected {len(waiting)} measured pictures, got more")

        return each

    def remove(self) -> None:
        """Remove what is kept, when the report is written."""
        with contextlib.suppress(OSError):
            for ending in (_SCORES, _PANELS):
                for path in self.folder.glob(f"*{ending}"):
                    path.unlink(missing_ok=True)
            self.folder.rmdir()

    def _measured(self, name: str, look: Callable[[], Seen]) -> Seen:
        """Measure a picture and keep it."""
        seen = look()
        # Since the one before was measured, as other processes may have measured this one.
        seconds = time.perf_counter() - self._since
        self._since += seconds
        kept = {"seconds": seconds, "value": seen.value, "scores": to_plain(dict(seen.scores))}
        self._keep(name, _SCORES, kept)
        return Seen(seen.scores, seen.value, partial(self._drawn, name, seen.draw))

    def _found(self, name: str, file: LabelledSource) -> Seen:
        """Return what an earlier run measured; it is measured again where somebody removed it."""
        again = partial(see, self._task, file)
        try:
            kept = json.loads(self._text(name, _SCORES) or "{}")
            scores = from_plain(kept["scores"], self._task.score_types)
            value, seconds = float(kept["value"]), float(kept["seconds"])
        except (KeyError, ValueError):
            return self._measured(name, again)
        self.earlier_seconds += seconds
        self._since = time.perf_counter()
        return Seen(scores, value, partial(self._drawn, name, lambda: again().draw()))

    def _drawn(self, name: str, draw: Callable[[], DrawnPanels]) -> DrawnPanels:
        """Return what there is to see, drawn where no earlier run has done it."""
        try:
            text = self._text(name, _PANELS)
            if text is None:
                panels = draw()
                told = [(caption, base64.b64encode(jpeg).decode()) for caption, jpeg in panels]
                self._keep(name, _PANELS, told)
                return panels
            return tuple((caption, base64.b64decode(jpeg)) for caption, jpeg in json.loads(text))
        except Exception:
            # A picture that cannot be shown has failed as a whole, and is tried again.
            with contextlib.suppress(OSError):
                (self.folder / f"{name}{_SCORES}").unlink()
            raise

    def _keep(self, name: str, ending: str, value: Any) -> None:  # noqa: ANN401
        """Write a file; one that cannot be written costs a later run its time, not this one."""
        if self._is_in_trouble:
            return
        text = json.dumps(value)
        try:
            make_folder(self.folder)
            with atomic_path(self.folder / f"{name}{ending}", flush=False) as temporary:
                temporary.write_text(f"{_digest(text)}\n{text}", encoding="ascii")
        except OutputError as error:
            self._is_in_trouble = True
            self._on_trouble(error)

    def _text(self, name: str, ending: str) -> str | None:
        """Return the content of a file, None where it is missing or was cut off."""
        try:
            content = (self.folder / f"{name}{ending}").read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            return None
        digest, _, text = content.partition("\n")
        return text if digest == _digest(text) else None


def _digest(text: str) -> str:
    """Return a digest by which a file that was cut off is noticed."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
