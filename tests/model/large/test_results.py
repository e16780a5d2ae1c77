"""Earlier results stay until the new ones are complete, wherever a run is stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import zarr
from tests.model.large.mosaics import Oracle, coins_labels, drawn, found_in
from tests.model.large.test_automatic import Stops, job_of, run, run_and_be_killed

from sam_plugins.errors import OutputError
from sam_plugins.model.inference.types import Segmentation
from sam_plugins.model.io.windows import Window
from sam_plugins.model.large import results
from sam_plugins.model.large.automatic import run_job
from sam_plugins.model.large.results import LargeSegmentation, table_path, work_folder

COUNT = len(np.unique(coins_labels())) - 1


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "a_labels.zarr"


@pytest.fixture
def picture() -> npt.NDArray[np.uint8]:
    return drawn(coins_labels())


@pytest.fixture
def old(picture: npt.NDArray[np.uint8], output: Path) -> dict[str, bytes]:
    """The content of earlier results, of one object, by file."""
    run_job(job_of(picture, output), output, one_object)
    assert results.mark_of(output)["count"] == 1
    return content(output)


def one_object(rgb: npt.NDArray[np.uint8], within: Window | None) -> Segmentation:
    """Find the first coin only."""
    is_first = (rgb[..., 0] == 0) & (rgb[..., 1] == 1)
    return found_in(np.where(is_first[..., None], rgb, 0), within)


def content(output: Path) -> dict[str, bytes]:
    """Return all files of labels and their table."""
    files = [path for path in output.rglob("*") if path.is_file()]
    return {str(path): path.read_bytes() for path in [*files, table_path(output)]}


def again(picture: npt.NDArray[np.uint8], output: Path, find: Oracle) -> LargeSegmentation:
    return run_job(job_of(picture, output), output, find, overwrite=True)


def test_earlier_results_are_whole_until_the_new_ones_are_complete(
    picture: npt.NDArray[np.uint8], output: Path, old: dict[str, bytes]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        again(picture, output, Stops(after=5))
    assert content(output) == old
    rest = Oracle()
    assert len(again(picture, output, rest)) == COUNT
    assert rest.asked == len(job_of(picture, output).plan) - 5
    assert content(output) != old
    assert sorted(path.name for path in output.parent.iterdir()) == [
        "a_labels.zarr",
        "a_objects.csv",
    ]


class KilledError(BaseException):
    """Stands for the end of a process."""


@pytest.fixture
def killed_after(
    picture: npt.NDArray[np.uint8], output: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], None]:
    """Run again, and end as if killed after so many of the four results got their names."""

    def run_killed(moves: int) -> None:
        def killed(all_of_them: Sequence[tuple[Path, Path]]) -> None:
            assert len(all_of_them) == 4
            for source, target in all_of_them[:moves]:
                source.replace(target)
            raise KilledError

        with monkeypatch.context() as patched:
            patched.setattr(results, "_move", killed)
            with pytest.raises(KilledError):
                again(picture, output, Oracle())

    return run_killed


@pytest.mark.parametrize("moves", [0, 1, 2, 3, 4])
def test_a_run_that_is_killed_while_results_get_their_names_is_finished_by_the_next(
    picture: npt.NDArray[np.uint8],
    output: Path,
    old: dict[str, bytes],
    moves: int,
    killed_after: Callable[[int], None],
) -> None:
    killed_after(moves)
    if moves == 0:
        assert content(output) == old
    rest = Oracle()
    found = again(picture, output, rest)
    assert (len(found), rest.asked) == (COUNT, 0)
    assert len(np.unique(found.labels()[:])) == COUNT + 1
    assert len(found.table.read_text().splitlines()) == COUNT + 1
    assert not work_folder(output).exists()


def test_what_was_begun_to_replace_is_finished_without_overwrite_too(
    picture: npt.NDArray[np.uint8],
    output: Path,
    old: dict[str, bytes],
    killed_after: Callable[[int], None],
) -> None:
    killed_after(1)
    assert not output.exists()
    idle = Oracle()
    assert (len(run(picture, output, idle)), idle.asked) == (COUNT, 0)


@pytest.mark.parametrize("failing", [1, 2, 3, 4])
def test_what_cannot_be_named_leaves_the_earlier_results(
    picture: npt.NDArray[np.uint8],
    output: Path,
    old: dict[str, bytes],
    failing: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, calls = Path.replace, 0

    def replace(path: Path, target: Path) -> Path:
        nonlocal calls
        if "earlier" in str(target) or path.name in {"labels.zarr", "objects.csv"}:
            calls += 1
            if calls == failing:
                raise PermissionError(13, "no")
        return real(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replace)
        with pytest.raises(OutputError, match="you may not write there"):
            again(picture, output, Oracle())
    assert content(output) == old
    assert len(again(picture, output, Oracle())) == COUNT


def test_what_another_command_has_begun_stays_where_this_one_is_done(
    picture: npt.NDArray[np.uint8], output: Path, old: dict[str, bytes]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_job(job_of(picture, output, halo=30), output, Stops(after=3), overwrite=True)
    assert len(run(picture, output)) == 1  # the earlier command is done
    rest = Oracle()
    run_job(job_of(picture, output, halo=30), output, rest, overwrite=True)
    assert rest.asked == len(job_of(picture, output, halo=30).plan) - 3


def test_labels_that_somebody_put_there_meanwhile_are_not_touched(
    picture: npt.NDArray[np.uint8],
    output: Path,
    old: dict[str, bytes],
    killed_after: Callable[[int], None],
) -> None:
    killed_after(1)
    zarr.create_array(output, shape=(4, 4), dtype="u1")
    with pytest.raises(OutputError, match="exists and is not ours"):
        again(picture, output, Oracle())
    assert zarr.open_array(output).shape == (4, 4)


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_the_earlier_results(
    picture: npt.NDArray[np.uint8], output: Path, old: dict[str, bytes]
) -> None:
    run_and_be_killed(picture, output, done=3, overwrite=True)
    assert content(output) == old
    rest = Oracle()
    assert len(again(picture, output, rest)) == COUNT
    assert rest.asked == len(job_of(picture, output).plan) - 3
