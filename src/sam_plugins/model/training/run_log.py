"""The log of a run as CSV: one line for each step, and none of steps that were taken back."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from sam_plugins.model.io.atomic import output_error, write_bytes


class RunLog:
    """A CSV file that a run appends to; use it in a ``with`` block.

    Parameters
    ----------
    path : Path
    columns : sequence of str
        The first is ``step``. A value that is not given stays empty.
    from_step : int
        Steps that the run has done: lines of later ones, which a run that was killed had not saved,
        are removed.

    Raises
    ------
    OutputError
        If it cannot be written.
    """

    def __init__(self, path: Path, columns: Sequence[str], from_step: int) -> None:
        self.path = path
        self.columns = tuple(columns)
        try:
            known = read_log(path)
        except OSError as error:
            raise output_error(path, error) from error
        kept = [row for row in known if float(row["step"]) <= from_step]
        heading = ",".join(self.columns)
        lines = [",".join(row.get(column, "") for column in self.columns) for row in kept]
        write_bytes(path, "".join(f"{line}\n" for line in [heading, *lines]).encode())
        try:
            self._file: TextIO = path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise output_error(path, error) from error

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._file.close()

    def add(self, values: Mapping[str, float]) -> None:
        """Append a line.

        Raises
        ------
        OutputError
            If the disk is full.
        """
        shown = [f"{values[column]:.6g}" if column in values else "" for column in self.columns]
        try:
            self._file.write(",".join(shown) + "\n")
        except OSError as error:
            raise output_error(self.path, error) from error


def read_log(path: Path) -> list[dict[str, str]]:
    """Return the whole lines of a log, none where there is no file; a cut one is left out."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    whole = text[: text.rfind("\n") + 1]
    rows = csv.DictReader(whole.splitlines())
    return [row for row in rows if (row.get("step") or "").replace(".", "").isdigit()]
