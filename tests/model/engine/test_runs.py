"""Runs in folders: repeated, killed, resumed, and what is left when something goes wrong."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from tests.labelled_sets import discs, picture_of
from tests.model.inference.tiny_models import TINY_PYRAMID, make_model

from sam_plugins.errors import (
    CheckpointError,
    DatasetError,
    FolderBusyError,
    MemoryLimitError,
    MissingExtraError,
    OutputError,
    TrainingError,
)
from sam_plugins.model.engine import fine_tuning, run_folder
from sam_plugins.model.engine.fine_tuning import FineTuned, FineTuningOptions, TrainingProgress
from sam_plugins.model.engine.held_out import Round
from sam_plugins.model.engine.run_config import RunConfig
from sam_plugins.model.engine.run_folder import RunFolder
from sam_plugins.model.engine.runs import begin_run, data_of, repeat_run, train_run
from sam_plugins.model.inference.loading import load_model
from sam_plugins.model.training import precision, trainer
from sam_plugins.model.training.batches import CropSize
from sam_plugins.model.training.simulated_session import StepResult
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.passport import Passport

QUICK = FineTuningOptions(
    steps=6, rounds=3, learning_rate=1e-2, crop_sizes=(CropSize(64, 2, 3, 1.0),),
    precision="float32", save_every_seconds=0.0,
)  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """Four pictures with three discs each, two of them held out, and a tiny parent."""
    for seed in range(4):
        labels = discs(seed)
        for kind, pixels in (("images", picture_of(labels)), ("labels", labels)):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / kind / f"{seed}.png")
    network = make_model(TINY_PYRAMID, "tiny").network
    passport = Passport("tiny", TINY_PYRAMID, version="1", licence="CC0")
    parent = save_model_file(tmp_path / "tiny.safetensors", network.state_dict(), passport)
    return RunConfig(
        name="discs",
        data=str(tmp_path / "images"),
        labels=str(tmp_path / "labels"),
        held_out=0.5,
        parent=str(parent),
        device="cpu",
        training=QUICK,
    )


def losses(folder: Path) -> list[str]:
    """The losses of a run by step, every digit."""
    with (folder / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, len(rows) + 1))
    return [row["loss"] for row in rows]


@pytest.fixture
def better_and_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure nothing: every round is better than the one before."""

    def measured(model: Any, step: int, *, share: float = 1.0, **_: Any) -> Round:
        value = 0.5 + share * step / 100
        return Round(step, {"a": value}, {"box": value}, share=share)

    monkeypatch.setattr(fine_tuning, "measure_round", measured)


@pytest.mark.usefixtures("better_and_better")
def test_one_process_at_a_time(config: RunConfig, tmp_path: Path) -> None:
    folder = begin_run(config, tmp_path / "run")
    refused: list[bool] = []

    def again(now: object) -> None:
        if not refused:
            with pytest.raises(FolderBusyError, match="another process is at work on the run"):
                train_run(RunFolder.open(folder.path))
            refused.append(True)

    train_run(folder, on_progress=again)
    assert refused


@pytest.mark.usefixtures("better_and_better")
@pytest.mark.parametrize("method", ["full", "lora", "decoder"])
def test_a_run_leaves_all_that_people_and_machines_need(
    config: RunConfig, tmp_path: Path, method: Any
) -> None:
    if method == "lora":
        pytest.importorskip("peft", reason="peft is not installed (extra: train)")
    config = replace(config, training=replace(QUICK, method=method))
    folder = begin_run(config, tmp_path / "run")
    seen: list[TrainingProgress] = []
    result = train_run(folder, on_progress=seen.append)
    assert isinstance(result, FineTuned)
    assert len(losses(folder.path)) == 6
    rounds = [(one.step, one.share) for one in folder.rounds()]
    assert rounds == [(0, 1), (2, 1), (4, 1), (6, 1), (6, 0.6), (6, 0.3)]
    assert folder.rounds()[0].figures == result.rounds[0].figures
    left = [one.seconds_left for one in seen if one.loss is not None]
    assert left[-1] == 0
    assert (seen[0].preparing is not None) is (method == "decoder")
    assert all(one is not None and one >= 0 for one in left)
    samples = sorted(path.name for path in (folder.path / "samples").iterdir())
    whole = [f"step-{step:06d}.png" for step in (0, 2, 4, 6)]
    assert samples == sorted([*whole, "step-000006-part-30.png", "step-000006-part-60.png"])
    with Image.open(folder.path / "samples" / samples[0]) as sheet:
        assert sheet.width > 500
        assert len(np.unique(np.asarray(sheet))) > 20
    assert not folder.state_path.exists()
    assert (folder.path / "adapter").exists() is (method == "lora")
    model = load_model(folder.best_path)
    assert model.config == TINY_PYRAMID
    assert result.is_better
    assert model.passport is not None
    assert model.passport.metrics == {"held out": dict(result.best.figures)}
    with pytest.raises(TrainingError, match="is complete, its best weights are"):
        train_run(RunFolder.open(folder.path))


def test_a_run_can_be_run_again_from_what_it_contains(config: RunConfig, tmp_path: Path) -> None:
    first = begin_run(config, tmp_path / "run")
    train_run(first)
    # A picture that came later is no part of the old run.
    Image.fromarray(picture_of(discs(5))).save(tmp_path / "images" / "5.png")
    Image.fromarray(discs(5)).save(tmp_path / "labels" / "5.png")
    again = repeat_run(RunFolder.open(first.path), tmp_path / "again")
    train_run(again)
    assert losses(again.path) == losses(first.path)
    assert again.rounds() == first.rounds()
    document = json.loads((again.path / "data.json").read_text())
    assert len(document["train"]) + len(document["held_out"]) == 4
    assert document["parent"]["id"].startswith("tiny-")
    assert {len(entry["sha256"]) for entry in document["train"]} == {64}


def test_a_config_means_the_same_from_another_folder(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    relative = replace(config, data="images", labels="labels", parent="./tiny.safetensors")
    folder = begin_run(relative, tmp_path / "run")
    monkeypatch.chdir(tmp_path / "elsewhere")
    kept = RunConfig.read(folder.path / "config.yaml")
    assert kept == config
    assert begin_run(kept, tmp_path / "longer").files() == folder.files()
    # A name is no path, whatever lies in the folder.
    assert replace(config, parent="default").with_whole_paths(tmp_path / "x").parent == "default"


def test_a_run_keeps_the_precision_of_the_machine_that_it_began_on(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    abilities = {"avx512_bf16": False}
    monkeypatch.setattr(precision, "_abilities_of_cpu", lambda: abilities)
    config = replace(config, training=replace(QUICK, precision="auto"))
    folder = begin_run(config, tmp_path / "run")
    abilities["avx512_bf16"] = True
    again = repeat_run(RunFolder.open(folder.path), tmp_path / "again")
    assert [one.config.training.precision for one in (folder, again)] == ["float32"] * 2
    assert begin_run(config, tmp_path / "new").config.training.precision == "bfloat16"


@pytest.mark.usefixtures("better_and_better")
@pytest.mark.parametrize("can_link", [True, False])
def test_a_shipped_parent_stays_with_its_runs_when_the_package_has_another(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_link: bool
) -> None:
    shipped = Path(config.parent)
    monkeypatch.setattr(run_folder, "find_entry", lambda _: SimpleNamespace(path=shipped))
    if not can_link:

        def no_links(*_: object) -> None:
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        monkeypatch.setattr(Path, "hardlink_to", no_links)
    folder = begin_run(
        replace(config, training=replace(QUICK, steps=1, rounds=1)), tmp_path / "run"
    )
    kept = folder.path / "parent.safetensors"
    assert kept.samefile(shipped) is can_link
    network = make_model(TINY_PYRAMID, "tiny", seed=1).network
    save_model_file(shipped, network.state_dict(), Passport("tiny", TINY_PYRAMID, version="2"))
    assert folder.load_parent().path == kept
    again = repeat_run(folder, tmp_path / "again")
    shipped.unlink()
    train_run(folder)
    shutil.rmtree(folder.path)
    assert train_run(again).comparison.parent == again.parent_id
    (again.path / "parent.safetensors").unlink()
    with pytest.raises(CheckpointError, match="does not exist"):
        again.load_parent()


COMMAND = "import sys; from sam_plugins.cli.app import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.slow  # two interpreters, sixty steps three times
def test_a_killed_run_goes_on_with_the_losses_of_an_uninterrupted_one(
    config: RunConfig, tmp_path: Path, repository: Path
) -> None:
    # Long enough that the signal meets it at work.
    training = replace(QUICK, steps=60, rounds=2)
    config = replace(config, training=training, note="killed")
    config.write(tmp_path / "config.yaml")
    folder = tmp_path / "run"
    paths = os.pathsep.join([str(repository / "src"), str(repository)])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", COMMAND, "train", str(tmp_path / "config.yaml")]
    killed = subprocess.Popen([*command, "-o", str(folder)], env=environment, text=True)
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and killed.poll() is None:
        log = folder / "log.csv"
        if log.exists() and 36 <= log.read_text().count("\n") < 56:
            break
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert 30 < len(RunFolder(folder).log()) < 60

    torch.set_num_threads(1)
    train_run(RunFolder.open(folder))
    whole = begin_run(config, tmp_path / "whole")
    train_run(whole)
    assert len(losses(folder)) == 60
    assert losses(folder) == losses(whole.path)
    assert RunFolder(folder).rounds() == whole.rounds()
    best, same = (safetensors.torch.load_file(one.best_path) for one in (RunFolder(folder), whole))
    assert all(torch.equal(best[name], same[name]) for name in same)


def _fail_at(monkeypatch: pytest.MonkeyPatch, step: int, error: Exception | None) -> None:
    """Let the forward pass of a step fail, or give a loss that is no number."""
    real = trainer.simulate_session

    def session(model: Any, batch: Any, config: Any, now: int, *more: Any) -> StepResult:
        result = real(model, batch, config, now, *more)
        if now != step:
            return result
        if error is not None:
            raise error
        return StepResult(result.loss * float("nan"), result.values | {"loss": float("nan")})

    monkeypatch.setattr(trainer, "simulate_session", session)


FAILURES: dict[str, tuple[Exception | None, type[Exception], str]] = {
    "not a number": (None, TrainingError, "the loss of step 5 is not a number"),
    "out of memory": (
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryLimitError,
        r"step 5 of the training ran out of memory; take smaller or fewer crops",
    ),
    "no memory at all": (MemoryError(), MemoryLimitError, "step 5 of the training ran out"),
}


@pytest.mark.usefixtures("better_and_better")
@pytest.mark.parametrize("failure", FAILURES)
def test_what_goes_wrong_is_said_and_the_last_good_state_kept(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    error, kind, message = FAILURES[failure]
    folder = begin_run(config, tmp_path / "run")
    with monkeypatch.context() as patch:
        _fail_at(patch, 5, error)
        with pytest.raises(kind, match=message) as caught:
            train_run(folder)
    assert f"`sam-plugins train {folder.path} --resume`" in str(caught.value)
    assert [one.step for one in folder.rounds()] == [0, 2, 4]
    assert f"the best weights so far, of step 4, are {folder.best_path}" in str(caught.value)
    assert load_model(folder.best_path).passport is not None
    if error is None:
        _goes_on(folder, config, tmp_path)


def _goes_on(folder: RunFolder, config: RunConfig, tmp_path: Path) -> None:
    """Check that a run goes on as if nothing had happened."""
    train_run(RunFolder.open(folder.path))
    whole = begin_run(config, tmp_path / "whole")
    train_run(whole)
    assert losses(folder.path) == losses(whole.path)
    assert folder.rounds() == whole.rounds()


@pytest.mark.usefixtures("better_and_better")
def test_an_error_that_is_no_memory_is_not_called_so(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail_at(monkeypatch, 2, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match=r"^shapes differ$"):
        train_run(begin_run(config, tmp_path / "run"))


@pytest.mark.usefixtures("better_and_better")
def test_a_gradient_that_is_no_number_moves_no_weight(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(float("inf")))
    with pytest.raises(TrainingError, match="the gradient of step 0 is not a number"):
        train_run(begin_run(config, tmp_path / "run"))


@pytest.mark.usefixtures("better_and_better")
@pytest.mark.parametrize("victim", ["state", "log"])
def test_a_full_disk_ends_with_a_remedy(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    folder = begin_run(config, tmp_path / "run")
    with monkeypatch.context() as patch:
        if victim == "state":
            real, calls = safetensors.torch.save_file, iter(range(1000))

            def save_file(tensors: Any, path: Any, metadata: Any) -> None:
                if "state" in str(path) and next(calls) >= 5:
                    message = "Error while serializing: I/O error: No space left on device"
                    raise safetensors.SafetensorError(message)
                real(tensors, path, metadata)

            patch.setattr(safetensors.torch, "save_file", save_file)
            message = "cannot write .*state.safetensors: .*No space left on device; free some space"
        else:
            rows = iter(range(1000))

            def append(self: RunFolder, *_: Any) -> None:
                from sam_plugins.model.io.atomic import output_error

                if next(rows) >= 4:
                    raise output_error(self.log_path, OSError(errno.ENOSPC, "No space left"))
                real_append(self, *_)

            real_append = RunFolder.append_log
            patch.setattr(RunFolder, "append_log", append)
            message = "cannot write .*log.csv: the disk is full; free some space"
        with pytest.raises(OutputError, match=message) as caught:
            train_run(folder)
    assert "--resume" in str(caught.value)
    assert not list(folder.path.glob(".*.part"))
    _goes_on(folder, config, tmp_path)


def test_really_full_disks(config: RunConfig, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)],
        capture_output=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.decode().strip()}")
    try:
        folder = begin_run(config, small / "run")
        (small / "ballast").write_bytes(bytes(850_000))
        with pytest.raises(OutputError, match=r"disk is full|No space left|free some space"):
            train_run(folder)
        (small / "ballast").unlink(missing_ok=True)
        assert RunFolder.open(folder.path).config == config
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_what_changed_since_is_refused(config: RunConfig, tmp_path: Path) -> None:
    folder = begin_run(config, tmp_path / "run")
    labels = tmp_path / "labels" / "0.png"
    before = labels.read_bytes()
    Image.fromarray(discs(1)).save(labels)
    with pytest.raises(DatasetError, match=r"0\.png or its labels changed since the run began"):
        train_run(folder)
    labels.unlink()
    with pytest.raises(DatasetError, match=r"cannot read .*put the file back"):
        repeat_run(folder, tmp_path / "again")
    labels.write_bytes(before)
    network = make_model(TINY_PYRAMID, "tiny", seed=1).network
    save_model_file(
        Path(config.parent), network.state_dict(), Passport("tiny", TINY_PYRAMID, version="1")
    )
    with pytest.raises(TrainingError, match=r"started from tiny-.*: put the old file back"):
        train_run(folder)


def test_folders_that_are_no_runs_are_refused(config: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="is no folder of a training run: expected"):
        RunFolder.open(tmp_path)
    with pytest.raises(OutputError, match="is not empty: choose another folder for the run"):
        begin_run(config, tmp_path)
    folder = begin_run(config, tmp_path / "run")
    (folder.path / "rounds.json").write_text("{")
    with pytest.raises(TrainingError, match=r"rounds\.json cannot be read .* remove it"):
        train_run(folder)
    (folder.path / "rounds.json").unlink()
    (folder.path / "data.json").write_text("[]")
    with pytest.raises(TrainingError, match=r"data\.json cannot be read .* begin a new run"):
        train_run(RunFolder.open(folder.path))


def test_half_a_row_of_a_log_is_left_out(config: RunConfig, tmp_path: Path) -> None:
    folder = begin_run(config, tmp_path / "run")
    folder.cut_log(0)
    for step in (1, 2, 3):
        folder.append_log(step, {"loss": 1 / 3, "box_best": 0.5, "unheard": 1.0}, 0.25)
    with folder.log_path.open("a") as file:
        file.write("4,0.1")
    rows = folder.log()
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert float(rows[0]["loss"]) == 1 / 3
    assert rows[0]["point_best"] == ""
    folder.cut_log(2)
    assert [row["step"] for row in folder.log()] == ["1", "2"]


@pytest.mark.usefixtures("better_and_better")
def test_tensorboard_gets_the_same_figures(config: RunConfig, tmp_path: Path) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="tensorboard is not installed (extra: train)",
    )
    folder = begin_run(
        replace(config, tensorboard=True, training=replace(QUICK, steps=2, rounds=1)),
        tmp_path / "run",
    )
    train_run(folder)
    events = accumulator.EventAccumulator(str(folder.path / "tensorboard"))
    events.Reload()
    written = [event.value for event in events.Scalars("training/loss")]
    assert written == pytest.approx([float(value) for value in losses(folder.path)], rel=1e-5)
    assert [event.step for event in events.Scalars("held out/box")] == [0, 2]


def test_what_is_not_installed_is_named(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    folder = begin_run(replace(config, tensorboard=True), tmp_path / "run")
    with pytest.raises(
        MissingExtraError, match=r'needs the package tensorboard.*"sam-plugins\[train'
    ):
        train_run(folder)


@pytest.mark.usefixtures("better_and_better")
def test_curves_need_matplotlib_and_nothing_else_does(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = replace(config, training=replace(QUICK, steps=2, rounds=1))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib.figure", None)
        plain = begin_run(short, tmp_path / "plain")
        train_run(plain)
    assert not (plain.path / "curves.png").exists()
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra: train)")
    folder = begin_run(short, tmp_path / "run")
    train_run(folder)
    with Image.open(folder.path / "curves.png") as curves:
        assert curves.width > 800


def test_sparse_and_ignored_pictures_reach_training(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "ignore").mkdir()
    ignore = np.zeros((48, 64), np.uint8)
    ignore[:, 40:] = 1
    train, _ = data_of(config)
    Image.fromarray(ignore).save(tmp_path / "ignore" / f"{train[0].id}.png")
    sparse = replace(config, sparse=True, ignore=str(tmp_path / "ignore"))
    train, held_out = data_of(sparse)
    assert not any(file.complete for file in (*train, *held_out))
    first = train[0].read()
    assert first.ignore is not None
    assert first.ignore[:, 40:].all()
    folder = begin_run(
        replace(sparse, training=replace(QUICK, steps=2, rounds=1)), tmp_path / "run"
    )
    (again, _), _ = folder.files()
    assert again == train[0]
    result = train_run(folder)
    assert np.isfinite(list(result.best.figures.values())).all()
    Image.fromarray(ignore).save(tmp_path / "ignore" / "foreign.png")
    with pytest.raises(DatasetError, match=r"expected a picture in .*; none for foreign"):
        data_of(sparse)
