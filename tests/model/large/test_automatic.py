"""Pictures of any size by tiles: the truth comes back, and so does an interrupted run."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import zarr
from tests.model.large.mosaics import (
    Oracle,
    coins_labels,
    drawn,
    found_in,
    is_same_division,
    nuclei,
    repeated,
)

from sam_plugins.errors import OutputError
from sam_plugins.model.inference.segment_options import AUTO
from sam_plugins.model.inference.types import Segmentation
from sam_plugins.model.io.images import open_image, read_image
from sam_plugins.model.io.windows import Window
from sam_plugins.model.large.automatic import plan_job, run_job, segment_large
from sam_plugins.model.large.job import TileJob
from sam_plugins.model.large.results import LargeSegmentation, work_folder
from sam_plugins.model.large.sources import ArraySource, FileSource
from sam_plugins.model.large.tiles import read_tile, segment_tile

SHOWN = (0.0, 255.0)


def job_of(
    picture: npt.NDArray[np.uint8], output: Path, tile: int = 160, halo: int = 20
) -> TileJob:
    """Return the job of a picture for an oracle."""
    return plan_job(
        ArraySource(picture, limits=SHOWN, channel_axis=2),
        output,
        model_id="oracle",
        mode="auto",
        options=AUTO,
        tile=tile,
        halo=halo,
    )


def run(
    picture: npt.NDArray[np.uint8], output: Path, find: Oracle | None = None, **settings: int
) -> LargeSegmentation:
    return run_job(job_of(picture, output, **settings), output, find or Oracle())


@pytest.mark.parametrize(("tile", "halo"), [(160, 20), (160, 40), (97, 12), (2000, 0)])
def test_joined_tiles_are_the_truth_pixel_by_pixel(tmp_path: Path, tile: int, halo: int) -> None:
    truth = repeated(coins_labels(), (1, 2))
    found = run(drawn(truth), tmp_path / "a_labels.zarr", tile=tile, halo=halo)
    assert len(found) == len(np.unique(truth)) - 1
    assert is_same_division(truth, found.labels()[:])


def test_real_nuclei_across_borders_are_counted_as_people_drew_them(
    tmp_path: Path, test_data: Path
) -> None:
    _, truth = nuclei(test_data, 512)
    found = run(drawn(truth), tmp_path / "a_labels.zarr", tile=160, halo=24)
    assert len(found) == len(np.unique(truth)) - 1
    assert is_same_division(truth, found.labels()[:])


def test_an_object_over_many_tiles_is_one(tmp_path: Path) -> None:
    truth = np.zeros((500, 600), np.int32)
    truth[40:460, 30:570], truth[10:25, 300:340] = 1, 2
    found = run(drawn(truth), tmp_path / "a_labels.zarr", tile=128, halo=16)
    assert is_same_division(truth, found.labels()[:])


def test_labels_are_ome_zarr_with_a_pyramid_and_the_table_tells_the_rest(tmp_path: Path) -> None:
    truth = repeated(coins_labels(), (4, 3))
    found = run(drawn(truth), tmp_path / "a_labels.zarr", tile=400, halo=20)
    metadata = json.loads((found.path / ".zattrs").read_text())
    image = metadata["multiscales"][0]
    assert [axis["name"] for axis in image["axes"]] == ["y", "x"]
    scales = [level["coordinateTransformations"][0]["scale"] for level in image["datasets"]]
    assert scales == [[1.0, 1.0], [2.0, 2.0]]
    assert metadata["image-label"]["version"] == "0.4"
    with open_image(found.path, level=1) as coarse:
        assert coarse.levels == 2
        assert (coarse.plane().pixels == read_image(found.path)[::2, ::2]).all()
    labels = found.labels()[:]
    with found.table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["label"]) for row in rows] == np.unique(labels)[1:].tolist()
    for row in rows[::7]:
        down, across = np.nonzero(labels == int(row["label"]))
        box = (across.min(), down.min(), across.max(), down.max())
        assert int(row["area"]) == len(down)
        assert tuple(int(row[name]) for name in ("x0", "y0", "x1", "y1")) == box
        assert 0.5 <= float(row["score"]) <= 0.9
        assert labels[round(float(row["point_y"])), round(float(row["point_x"]))] == int(
            row["label"]
        )


class Stops(Oracle):
    """An oracle that is interrupted after some windows."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def __call__(self, rgb: npt.NDArray[np.uint8], within: Window | None) -> Segmentation:
        if self.asked == self.after:
            raise KeyboardInterrupt
        return super().__call__(rgb, within)


def test_an_interrupted_run_goes_on_and_ends_as_one_that_was_not(tmp_path: Path) -> None:
    picture = drawn(repeated(coins_labels(), (1, 2)))
    whole = run(picture, tmp_path / "whole_labels.zarr")
    output = tmp_path / "a_labels.zarr"
    with pytest.raises(KeyboardInterrupt):
        run(picture, output, Stops(after=6))
    assert not output.exists()
    rest = Oracle()
    again = run(picture, output, rest)
    assert rest.asked == len(job_of(picture, output).plan) - 6
    assert (again.labels()[:] == whole.labels()[:]).all()
    assert again.table.read_bytes() == whole.table.read_bytes()
    assert not work_folder(output).exists()


def test_a_run_that_stops_while_it_writes_goes_on_without_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = drawn(repeated(coins_labels(), (1, 2)))
    whole = run(picture, tmp_path / "whole_labels.zarr")
    output = tmp_path / "a_labels.zarr"
    job = job_of(picture, output)
    seen: list[int] = []

    def stop(done: int, total: int) -> None:
        seen.append(done)
        if done == len(job.plan) + 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(job, output, Oracle(), progress=stop)
    rest = Oracle()
    again = run(picture, output, rest)
    assert rest.asked == 0
    assert seen == sorted(seen)
    assert (again.labels()[:] == whole.labels()[:]).all()


def test_a_tile_that_was_cut_off_is_done_again_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    picture = drawn(coins_labels())
    whole = run(picture, tmp_path / "whole_labels.zarr")
    output = tmp_path / "a_labels.zarr"
    job = job_of(picture, output)
    job.begin()
    for index in (1, 2):
        segment_tile(job, index, found_in)
    content = job.tile_path(1).read_bytes()
    job.tile_path(1).write_bytes(content[:200])
    job.tile_path(2).write_bytes(b"\0" * 200 + job.tile_path(2).read_bytes()[200:])
    with pytest.raises(OutputError, match=r"000002\.npz, the result of a tile, is damaged; remove"):
        run(picture, output)
    assert job.tile_path(1).read_bytes() == content
    job.tile_path(2).unlink()
    assert (run(picture, output).labels()[:] == whole.labels()[:]).all()


def test_a_run_that_was_killed_after_its_labels_got_their_name_can_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = drawn(coins_labels())
    output = tmp_path / "a_labels.zarr"
    with monkeypatch.context() as kept:
        kept.setattr("sam_plugins.model.large.results.shutil.rmtree", lambda *_, **__: None)
        first = run(picture, output).labels()[:]
    assert work_folder(output).is_dir()
    again = run_job(job_of(picture, output), output, Oracle(), overwrite=True)
    assert first.any()
    assert (again.labels()[:] == first).all()


def test_what_is_done_is_returned_at_once_and_nothing_else_is_replaced(tmp_path: Path) -> None:
    picture = drawn(coins_labels())
    output = tmp_path / "a_labels.zarr"
    first = run(picture, output)
    idle = Oracle()
    assert run(picture, output, idle) == first
    assert idle.asked == 0
    with pytest.raises(OutputError, match=r"was made with other settings; replace labels of ours"):
        run(picture, output, halo=30)
    other = run_job(job_of(picture, output, halo=30), output, Oracle(), overwrite=True)
    assert len(other) == len(first)
    theirs = tmp_path / "theirs.zarr"
    zarr.create_array(theirs, shape=(4, 4), dtype="u1")
    with pytest.raises(OutputError, match=r"exists and is not ours"):
        run_job(job_of(picture, theirs), theirs, Oracle(), overwrite=True)


def test_a_table_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    picture = drawn(coins_labels())
    output, table = tmp_path / "a_labels.zarr", tmp_path / "a_objects.csv"
    table.write_text("mine")
    asked = Oracle()
    with pytest.raises(OutputError, match=r"a_objects\.csv exists without the labels"):
        run(picture, output, asked)
    assert (asked.asked, table.read_text()) == (0, "mine")
    assert run_job(job_of(picture, output), output, Oracle(), overwrite=True).table == table
    assert table.read_text() != "mine"


def test_a_run_that_was_killed_between_its_table_and_its_labels_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(moves: Sequence[tuple[Path, Path]]) -> None:
        moves[0][0].replace(moves[0][1])
        raise KeyboardInterrupt

    picture = drawn(coins_labels())
    output = tmp_path / "a_labels.zarr"
    with monkeypatch.context() as kept:
        kept.setattr("sam_plugins.model.large.results._move", killed)
        with pytest.raises(KeyboardInterrupt):
            run(picture, output)
    assert (tmp_path / "a_objects.csv").is_file()
    assert not output.exists()
    assert run(picture, output).labels()[:].any()


def test_the_values_of_an_array_are_digested_once(tmp_path: Path) -> None:
    class Counted:
        def __init__(self, array: npt.NDArray[np.uint8]) -> None:
            self.array, self.shape, self.dtype = array, array.shape, array.dtype
            self.strided = 0

        def __getitem__(self, where: tuple[slice, ...]) -> npt.NDArray[np.uint8]:
            self.strided += any((part.step or 1) > 1 for part in where)
            return self.array[where]

    counted = Counted(drawn(coins_labels()))
    source = ArraySource(counted, limits=SHOWN, channel_axis=2)
    output = tmp_path / "a_labels.zarr"
    job = plan_job(source, output, model_id="m", mode="auto", options=AUTO, tile=200, halo=20)
    run_job(job, output, Oracle())
    assert counted.strided == 1


def test_tiles_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    picture = drawn(coins_labels())
    output = tmp_path / "a_labels.zarr"
    with pytest.raises(KeyboardInterrupt):
        run(picture, output, Stops(after=2))
    with pytest.raises(OutputError, match=r"interrupted run with other settings \(plan\)"):
        run(picture, output, halo=30)
    brighter = picture.copy()
    brighter[:, :, 2] = 1
    with pytest.raises(OutputError, match=r"interrupted run with other settings \(source\)"):
        run(brighter, output)
    done = run_job(job_of(brighter, output), output, Oracle(), overwrite=True)
    assert len(done) == len(np.unique(coins_labels())) - 1


def test_a_tile_is_a_task_of_plain_values(tmp_path: Path) -> None:
    truth = coins_labels()
    zarr.create_array(tmp_path / "a.zarr", data=drawn(truth), chunks=(64, 64, 3))
    source = FileSource(str(tmp_path / "a.zarr"), limits=SHOWN)
    output = tmp_path / "a_labels.zarr"
    job = plan_job(source, output, model_id="oracle", mode="auto", options=AUTO, tile=200, halo=20)
    job.begin()
    path = segment_tile(job, 3, found_in)
    assert path == segment_tile(job, 3, Stops(after=0))  # done, and not done again
    tile = job.plan[3]
    seen, near = truth[tile.window], truth[job.plan.near(tile)]
    own = np.where(np.isin(seen, near), seen, 0)
    assert own.any()
    assert (own != seen).any()  # what is another tile's is left to it
    assert is_same_division(own, read_tile(path).labels)
    assert len(run_job(job, output, Oracle())) == len(np.unique(truth)) - 1


KILLED = """
import os, signal, sys
import numpy as np
from pathlib import Path
from tests.model.large.mosaics import found_in
from tests.model.large.test_automatic import job_of
from sam_plugins.model.large.automatic import run_job
picture, folder, done, overwrite = sys.argv[1:]
asked = 0
def find(rgb, within):
    global asked
    asked += 1
    if asked > int(done):
        os.kill(os.getpid(), signal.SIGKILL)
    return found_in(rgb, within)
output = Path(folder)
run_job(job_of(np.load(picture), output), output, find, overwrite=overwrite == "True")
"""


def run_and_be_killed(
    picture: npt.NDArray[np.uint8], output: Path, *, done: int, overwrite: bool = False
) -> None:
    """Segment in another process, which ends by ``kill -9`` after so many tiles."""
    saved = output.with_name("picture.npy")
    np.save(saved, picture)
    arguments = [str(saved), str(output), str(done), str(overwrite)]
    ended = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False)
    assert ended.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    picture = drawn(repeated(coins_labels(), (2, 2)))
    output = tmp_path / "a_labels.zarr"
    run_and_be_killed(picture, output, done=8)
    rest = Oracle()
    again = run(picture, output, rest)
    assert rest.asked == len(job_of(picture, output).plan) - 8
    whole = run(picture, tmp_path / "whole_labels.zarr")
    assert (again.labels()[:] == whole.labels()[:]).all()
    assert again.table.read_bytes() == whole.table.read_bytes()


@pytest.mark.slow
def test_the_shipped_model_finds_by_tiles_what_it_finds_at_once(
    tmp_path: Path, test_data: Path
) -> None:
    """Windows of 256 pixels are what the pictures of this mosaic are: both see the same scale."""
    picture, truth = nuclei(test_data, 512)
    found = segment_large(picture, tmp_path / "a_labels.zarr", tile=320, halo=40)
    labels = found.labels()[:]
    hits = sum(
        any(
            np.count_nonzero(mask & (labels == other))
            > 0.5 * np.count_nonzero(mask | (labels == other))
            for other in np.unique(labels[mask])
            if other
        )
        for mask in (truth == number for number in np.unique(truth)[1:])
    )
    assert hits >= 0.8 * (len(np.unique(truth)) - 1)
    assert abs(len(found) - (len(np.unique(truth)) - 1)) <= 0.15 * len(np.unique(truth))
