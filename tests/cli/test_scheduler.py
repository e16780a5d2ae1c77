"""Commands on a real cluster do what they do in one process, and lose nothing with a worker."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.dask_cluster import two_workers
from tests.labelled_sets import discs, picture_of, write_sets

from sam_plugins.cli import evaluate, main
from sam_plugins.cli.console import collected, complain, is_terminal, pass_on
from sam_plugins.cli.scheduler import absolute
from sam_plugins.errors import OutputError
from sam_plugins.model.cluster import choice
from sam_plugins.model.cluster.dask_runner import DaskRunner

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two processes."""
    with two_workers() as found:
        yield found


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Pictures with three discs each, and one that is none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(6):
        Image.fromarray(picture_of(discs(seed))).save(folder / f"cells-{seed}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command; return its code and its JSON."""

    def call(*arguments: object) -> tuple[int, Any]:
        capsys.readouterr()
        code = main([*map(str, arguments), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return call


def labels_in(folder: Path) -> dict[str, Any]:
    """Return the label images of a folder."""
    return {path.name: tifffile.imread(path) for path in sorted(folder.glob("*_labels.tif"))}


def without_seconds(document: dict[str, Any], folder: Path) -> str:
    """Return what must be the same, as text."""
    for one in document["results"]:
        one.pop("seconds")
    return json.dumps(document).replace(str(folder), "FOLDER")


def test_segment_does_the_same(
    run: Run, tiny: Path, pictures: Path, tmp_path: Path, address: str, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)  # the workers are elsewhere
    command = ["segment", "pictures", "--model", "tiny.safetensors", "--box", "10,10,40,40", "-o"]
    code, alone = run(*command, "alone", "--scheduler", "none")
    assert code == 1
    code, spread = run(*command, "spread", "--scheduler", address)
    assert code == 1
    there = without_seconds(spread, Path("spread")).replace(f"{tmp_path}/", "")
    assert without_seconds(alone, Path("alone")) == there
    assert [one["image"] for one in spread["results"]] == [
        f"pictures/cells-{seed}.png" for seed in range(6)
    ]
    assert "broken.png" in spread["failed"][0]["image"]
    ours, theirs = labels_in(tmp_path / "alone"), labels_in(tmp_path / "spread")
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert len(list((tmp_path / "spread").iterdir())) == 3 * 6  # no marker is left


def test_what_people_edited_is_kept(
    run: Run, tiny: Path, pictures: Path, tmp_path: Path, address: str
) -> None:
    command = ["segment", pictures / "cells-0.png", "--model", tiny, "--box", "10,10,40,40"]
    command += ["-o", tmp_path / "out", "--scheduler", address]
    assert run(*command)[0] == 0
    labels = tmp_path / "out" / "cells-0_labels.tif"
    tifffile.imwrite(labels, np.full((64, 64), 7, np.uint16))
    code, document = run(*command)
    assert code == 1
    assert "was changed since it was written" in document["failed"][0]["error"]
    assert (tifffile.imread(labels) == 7).all()


def test_a_worker_killed_amid_pictures_costs_none(
    run: Run, tiny: Path, pictures: Path, tmp_path: Path, address: str, monkeypatch: Any
) -> None:
    (pictures / "broken.png").unlink()
    killed: list[int] = []
    outcome_of = DaskRunner._outcome

    def killing(self: Any, future: Any, index: int, item: Any) -> Any:
        outcome = outcome_of(self, future, index, item)
        if item is not None and not killed:  # after the first picture
            victim = next(iter(self._client.run(os.getpid).values()))
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)
        return outcome

    monkeypatch.setattr(DaskRunner, "_outcome", killing)
    command = ["segment", pictures, "--model", tiny, "--box", "10,10,40,40"]
    code, document = run(*command, "-o", tmp_path / "out", "--scheduler", address)
    assert code == 0
    assert killed
    assert len(document["results"]) == 6
    assert run(*command, "-o", tmp_path / "alone", "--scheduler", "none")[0] == 0
    ours, theirs = labels_in(tmp_path / "alone"), labels_in(tmp_path / "out")
    assert ours.keys() == theirs.keys()
    assert len(ours) == 6
    assert all(one.any() and np.array_equal(one, theirs[name]) for name, one in ours.items())


def test_tiles_of_a_large_picture_are_tasks(
    run: Run, tiny: Path, tmp_path: Path, address: str
) -> None:
    import zarr

    wide = np.concatenate([picture_of(discs(seed)) for seed in range(3)], axis=1)
    Image.fromarray(np.ascontiguousarray(wide)).save(tmp_path / "wide.png")
    command = ["segment", tmp_path / "wide.png", "--model", tiny, "--mode", "grid", "--tile", "64"]
    found = []
    for name, where in (("alone", "none"), ("spread", address)):
        code, document = run(*command, "--scheduler", where, "-o", tmp_path / name)
        assert code == 0
        files = document["results"][0]["files"]
        assert files["labels"] == str(tmp_path / name / "wide_labels.zarr")
        found.append(np.asarray(zarr.open(files["labels"], mode="r")["0"]))
        assert Path(files["objects"]).is_file()
    assert np.array_equal(*found)


def test_slices_of_a_stack_are_tasks(
    run: Run, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zarr

    one = picture_of(discs(3))
    stack, form = np.stack([one] * 4), {"axes": "ZYX"}
    tifffile.imwrite(tmp_path / "s.tif", stack, photometric="minisblack", metadata=form)
    command = ["segment", tmp_path / "s.tif", "--stack"]
    found = []
    seen = counted_tasks(monkeypatch)
    for name, where in (("alone", "none"), ("spread", address)):
        code, document = run(*command, "--scheduler", where, "-o", tmp_path / name)
        assert code == 0
        files = document["results"][0]["files"]
        assert files["labels"] == str(tmp_path / name / "s_labels.zarr")
        found.append((np.asarray(zarr.open(files["labels"], mode="r")["0"]), files["objects"]))
    (ours, our_table), (theirs, their_table) = found
    assert ours.shape == stack.shape
    assert ours.any()
    assert np.array_equal(ours, theirs)
    assert Path(our_table).read_text() == Path(their_table).read_text()
    assert seen[-1] == 4  # after the model, the stack, which was left to all, and its plan


def counted_tasks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list to which every run on a cluster adds how many tasks it had."""
    counts: list[int] = []
    run_as_ever = DaskRunner.run

    def counting(self: Any, function: Any, items: Any, **options: Any) -> Any:
        items = list(items)
        counts.append(len(items))
        return run_as_ever(self, function, items, **options)

    monkeypatch.setattr(DaskRunner, "run", counting)
    return counts


def _rounded(document: dict[str, Any]) -> Any:
    """Return a JSON document with numbers of five decimals."""
    return json.loads(json.dumps(document), parse_float=lambda text: round(float(text), 5))


def test_evaluate_does_the_same(run: Run, tiny: Path, tmp_path: Path, address: str) -> None:
    data = write_sets(tmp_path / "data")
    command = ["evaluate", "single-point", "--data", data, "--model", tiny, "--max-objects", "3"]
    command += ["--split", "val"]
    code, alone = run(*command, "--scheduler", "none", "-o", tmp_path / "alone")
    assert code == 0
    code, spread = run(*command, "--scheduler", address, "-o", tmp_path / "spread")
    assert code == 0
    for document in (alone, spread):
        document.pop("seconds")
    # A worker has one thread, this process may have more: the last digits differ.
    assert _rounded(alone) == _rounded(spread)
    names = sorted(path.name for path in (tmp_path / "alone").rglob("*"))
    assert names == sorted(path.name for path in (tmp_path / "spread").rglob("*"))


def test_an_interrupted_evaluation_goes_on(
    run: Run, tiny: Path, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_sets(tmp_path / "data")
    command = ["evaluate", "single-point", "--data", data, "--model", tiny, "--max-objects", "2"]
    out = ["-o", tmp_path / "out", "--scheduler"]
    received, count = evaluate._received, iter(range(9))

    def interrupted(*arguments: Any) -> Any:
        if next(count) == 2:
            raise KeyboardInterrupt
        return received(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(evaluate, "_received", interrupted)
        assert run(*command, *out, address)[0] == 130
    kept = tmp_path / "out" / "measured.work"
    assert len(list(kept.glob("*.scores"))) == 2
    shutil.copytree(tmp_path / "out", tmp_path / "copy")
    tasks = counted_tasks(monkeypatch)
    code, continued = run(*command, *out, address)
    assert code == 0
    assert tasks == [2]
    assert not kept.exists()
    code, whole = run(*command, "-o", tmp_path / "whole", "--scheduler", address)
    assert code == 0
    assert tasks == [2, 4]
    assert {**continued, "seconds": 0} == {**whole, "seconds": 0}
    for name in ("objects.csv", "pictures.csv", "table.md"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    # What workers measured serves a run in one process, too.
    code, alone = run(*command, "-o", tmp_path / "copy", "--scheduler", "none")
    assert code == 0
    assert tasks == [2, 4]
    assert _rounded({**alone, "seconds": 0}) == _rounded({**whole, "seconds": 0})


def test_where_all_is_measured_no_cluster_is_started(
    run: Run, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OutputError("the disk is full")

    data = write_sets(tmp_path / "data")
    command = ["evaluate", "single-point", "--data", data, "--model", tiny, "--max-objects", "1"]
    command += ["-o", tmp_path / "out", "--scheduler"]
    with monkeypatch.context() as patched:
        patched.setattr("sam_plugins.model.evaluation.report_folder.files_together", full)
        assert main([*map(str, command), "none"]) == 1
    nobody = "127.0.0.1:9"
    assert run(*command, nobody)[0] == 0


def test_run_auto_does_the_same(
    run: Run, tiny: Path, pictures: Path, tmp_path: Path, address: str
) -> None:
    (pictures / "broken.png").unlink()
    found = []
    for name, where in (("alone", "none"), ("spread", address)):
        project = tmp_path / name
        run("engine", "init", project, "--name", name, "--model", tiny)
        run("engine", "import", project, pictures)
        auto = ["engine", "run-auto", project, "--min-score", "0", "--scheduler", where]
        code, document = run(*auto)
        assert code == 0
        assert document["left"] == 0
        found.append({one["image_id"]: one["objects"] for one in document["results"]})
        assert run(*auto)[1]["results"] == []  # what is done is not done again
    assert found[0] == found[1]
    assert len(found[0]) == 6


def ends(group: int) -> bool:
    """Return whether all processes of a group are gone within some seconds."""
    for _ in range(200):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
def test_ctrl_c_ends_processes_and_leaves_no_half_file(
    tiny: Path, tmp_path: Path, pictures: Path
) -> None:
    for seed in range(40):
        Image.fromarray(picture_of(discs(seed))).save(pictures / f"more-{seed}.png")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "sam_plugins", "segment", str(pictures), "-o", str(out)]
    command += ["--model", str(tiny), "--box", "10,10,40,40", "--scheduler", "local", "--json"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while len(list(out.glob("*_labels.tif"))) < 6:
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: workers get it too
    said, complained = process.communicate(timeout=60)
    assert process.returncode == 130, complained
    document = json.loads(said)
    assert "interrupted" in document["error"]
    assert "Traceback" not in complained
    assert 0 < len(document["results"]) < 46
    endings = {path.name.rpartition("_")[2] for path in out.iterdir()}
    assert endings == {"labels.tif", "overlay.png", "objects.json"}
    assert ends(process.pid)


def test_the_missing_extra_is_named(
    run: Run, tiny: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "has_dask", lambda: False)
    command = ["segment", pictures, "--model", tiny, "-o", tmp_path / "out"]
    code, document = run(*command, "--scheduler", "local")
    assert code == 1
    assert (
        'pip install "sam-plugins[scale]", or in a clone pip install ".[scale]"'
        in document["error"]
    )


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--scheduler", "nowhere", "expected none, local, the address of a Dask scheduler"),
        ("--workers", "0", "expected 1 or more, got '0'"),
    ],
)
def test_wrong_usage(
    option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["segment", "a.png", "-o", "out", option, value])
    assert message in capsys.readouterr().err


def test_lines_of_a_worker_are_said_here(capsys: pytest.CaptureFixture[str]) -> None:
    import warnings

    with collected() as lines:
        warnings.simplefilter("always")
        complain("one")
        warnings.warn("two", UserWarning, stacklevel=1)
        assert not is_terminal()
    assert capsys.readouterr().err == ""
    pass_on(lines)
    assert capsys.readouterr().err == "sam-plugins: one\nsam-plugins: warning: two\n"


def test_paths_are_named_for_another_folder(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.pt").touch()
    assert absolute("tiny.pt") == str(tmp_path / "tiny.pt")
    assert absolute("default") == "default"
    assert absolute((Path("a"), "b")) == (tmp_path / "a", "b")
