"""One process at a time in the folder of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam_plugins.errors import FolderBusyError, OutputError
from sam_plugins.model.io.alone import working_alone


def test_the_second_is_refused_and_the_next_one_is_not(tmp_path: Path) -> None:
    with (
        working_alone(tmp_path),
        pytest.raises(FolderBusyError, match=r"another process is at work on the run in .*; wait"),
        working_alone(tmp_path),
    ):
        pass
    with working_alone(tmp_path):
        pass


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match=r"cannot write .*\.lock"),
        working_alone(tmp_path / "file"),
    ):
        pass
