"""A function in a process of its own."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from sam_plugins.errors import DatasetError
from sam_plugins.napari_plugin.jobs import JobCancelled, JobProgress
from sam_plugins.napari_plugin.worker import WorkerDiedError, in_process


class Said(list[tuple[str, object]]):
    """What a job heard."""

    def __call__(self, kind: str, value: object) -> None:
        self.append((kind, value))


def work(count: int, *, progress: JobProgress) -> int:
    print("libraries print")
    for number in range(count):
        progress.hand_over(number)
    progress(count, count)
    return os.getpid()


def wait_long(path: str, *, progress: JobProgress) -> str:
    Path(path).write_text(str(os.getpid()))
    try:
        while True:
            progress.check()
            time.sleep(0.01)
    except KeyboardInterrupt:
        if path.endswith("keeps"):
            return "the best so far"
        raise


def fail(*, progress: JobProgress) -> None:
    raise DatasetError("nothing is labelled: label some first")


def die(*, progress: JobProgress) -> None:
    os._exit(9)


def test_result_reports_and_another_process() -> None:
    said = Said()
    assert in_process(work, 3, progress=JobProgress(said)) != os.getpid()
    assert [value for kind, value in said if kind == "partial"] == [0, 1, 2]
    assert ("progress", (3, 3)) in said


@pytest.mark.parametrize("name", ["stops", "keeps"])
def test_cancelling_ends_the_process(tmp_path: Path, name: str) -> None:
    progress = JobProgress(Said())
    path = tmp_path / name
    results: list[object] = []

    def run() -> None:
        try:
            results.append(in_process(wait_long, str(path), progress=progress))
        except JobCancelled as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not (path.exists() and path.read_text()):
        time.sleep(0.05)
    progress.cancel()
    thread.join(20)
    assert not thread.is_alive()
    if name == "keeps":
        assert results == ["the best so far"]
    else:
        assert isinstance(results[0], JobCancelled)
    with pytest.raises(ProcessLookupError):
        os.kill(int(path.read_text()), 0)


def test_errors_arrive_as_they_were() -> None:
    with pytest.raises(DatasetError, match="label some first"):
        in_process(fail, progress=JobProgress(Said()))


def test_a_process_that_dies_is_said_to_have() -> None:
    with pytest.raises(WorkerDiedError, match="exit code 9"):
        in_process(die, progress=JobProgress(Said()))
