"""A worker that sees another disk or another version is refused, with the remedy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sam_plugins.errors import ClusterError
from sam_plugins.model.cluster.shared import SharedFiles, marked


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.tif"
    path.write_bytes(b"pixels")
    return path


def test_the_same_files_are_fine(picture: Path, tmp_path: Path) -> None:
    with marked(SharedFiles.of([picture, tmp_path]), tmp_path) as shared:
        shared.require()
        assert len(list(tmp_path.iterdir())) == 2
    assert [one.name for one in tmp_path.iterdir()] == ["a.tif"]


def test_a_missing_file(picture: Path) -> None:
    shared = SharedFiles.of([picture])
    picture.unlink()
    with pytest.raises(ClusterError, match=r"cannot read .*a\.tif .*mount the same folder"):
        shared.require()


def test_another_file_of_the_same_name(picture: Path) -> None:
    shared = SharedFiles.of([picture])
    picture.write_bytes(b"others")
    with pytest.raises(ClusterError, match=r"sees another file as .*a\.tif; mount"):
        shared.require()


def test_another_folder_of_results(picture: Path, tmp_path: Path) -> None:
    with marked(SharedFiles.of(), tmp_path) as shared:
        elsewhere = replace(shared, marker=str(tmp_path / "other" / "marker"))
        with pytest.raises(ClusterError, match=r"does not see the folder of the results, .*other"):
            elsewhere.require()
        impostor = replace(shared, token="another run")
        with pytest.raises(ClusterError, match="does not see the folder of the results"):
            impostor.require()


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    with (
        pytest.raises(ClusterError, match=r"cannot write into .*missing: "),
        marked(SharedFiles.of(), tmp_path / "missing"),
    ):
        pass


def test_other_versions(picture: Path) -> None:
    shared = SharedFiles.of([picture])
    with pytest.raises(ClusterError, match=r"runs sam-plugins .*, this program 0\.0: install the"):
        replace(shared, version="0.0").require()
    with pytest.raises(ClusterError, match=r"runs Python 3\.\d+, this program 2\.7"):
        replace(shared, python="2.7").require()


def test_a_file_that_is_missing_here_is_left_to_its_task(tmp_path: Path) -> None:
    assert SharedFiles.of([tmp_path / "no.tif"]).files == ()
