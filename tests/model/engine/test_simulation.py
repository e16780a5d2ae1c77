"""The loop of labelling and learning, with a tiny model that really learns discs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.labelled_sets import discs, picture_of
from tests.model.inference.tiny_models import TINY_PYRAMID, make_model
from tests.quick_training import make_training_quick

from sam_plugins.cli.app import main
from sam_plugins.errors import DatasetError, MissingExtraError
from sam_plugins.model.engine import simulation, simulation_report
from sam_plugins.model.engine.fine_tuning import FineTuned, FineTuningOptions
from sam_plugins.model.engine.label_store import LabelStore
from sam_plugins.model.engine.proposals import Proposal
from sam_plugins.model.engine.simulated_annotator import AnnotatorOptions
from sam_plugins.model.engine.simulated_pictures import SimulatedPictures
from sam_plugins.model.engine.simulation import (
    Gate,
    SimulationOptions,
    Strategy,
    Work,
    simulate,
    to_dict,
    total,
)
from sam_plugins.model.engine.simulation_report import draw_plot, to_markdown
from sam_plugins.model.inference.full_size import WindowMask
from sam_plugins.model.io.folder_pairs import list_folder_pair
from sam_plugins.model.io.labelled import LabelledFile, list_manifest_files
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.passport import Passport


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    passport = Passport("tiny", TINY_PYRAMID, version="1", licence="CC0")
    network = make_model(TINY_PYRAMID, "tiny").network
    return save_model_file(tmp_path / "tiny.safetensors", network.state_dict(), passport)


@pytest.fixture(autouse=True)
def quick_training(monkeypatch: pytest.MonkeyPatch) -> None:
    make_training_quick(monkeypatch)


@pytest.fixture
def files(tmp_path: Path) -> list[LabelledFile]:
    for seed in range(8):
        labels = discs(seed)
        for kind, pixels in (("images", picture_of(labels)), ("labels", labels)):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / kind / f"{seed}.png")
    return list_folder_pair(tmp_path / "images", tmp_path / "labels")


OPTIONS = SimulationOptions(
    rounds=2,
    pictures_per_round=2,
    training=FineTuningOptions(steps=30, rounds=1, learning_rate=5e-3),
    annotator=AnnotatorOptions(max_clicks=1, drawing_clicks=4),
    gate=Gate.BETTER,
    strategies=(Strategy.CHOSEN, Strategy.NO_LEARNING),
)


def test_the_loop_labels_learns_and_measures(
    parent: Path, files: list[LabelledFile], tmp_path: Path
) -> None:
    pictures = SimulatedPictures(tuple(files[:5]), tuple(files[5:7]), tuple(files[7:]))
    told: list[str] = []
    played = simulate(parent, pictures, tmp_path / "work", OPTIONS, report=told.append)
    assert set(played.courses) == {Strategy.CHOSEN, Strategy.NO_LEARNING}
    start = {one.model_id for rounds in played.courses.values() for one in rounds[:1]}
    assert len(start) == 1
    for strategy, rounds in played.courses.items():
        assert [one.number for one in rounds] == [0, 1, 2]
        names = [name for one in rounds for name in one.labelled]
        assert len(set(names)) == len(names) == 4
        assert set(names) <= {file.id for file in files[:5]}
        assert all(set(one.test) == {files[7].id} for one in rounds)
        for work in (work for one in rounds for work in one.labelled.values()):
            assert work.objects == 3
            assert work.untouched + work.corrected + work.added + work.drawn == 3
            assert work.clicks >= work.added + work.deleted + 4 * work.drawn
        learned = {one.model_id for one in rounds} - start
        assert bool(learned) is (strategy != Strategy.NO_LEARNING)
        # What was labelled lies in a label store, with what was said.
        folder = tmp_path / "work" / strategy.name.lower().replace("_", "-")
        with LabelStore.open(folder / "labels") as labels:
            objects = labels.objects()
            assert len(objects) == 12
            assert {one.author for one in objects} == {"simulated"}
            assert all(one.is_complete for one in labels.images())
    without = played.courses[Strategy.NO_LEARNING]
    assert {one.model_id for one in without} == start
    for one in without:
        if one.min_score == without[0].min_score:
            assert one.test == without[0].test
    assert len(told) == 7
    assert told[0].startswith("start, round 0: test pictures")
    assert sum("held-out pictures" in one for one in told) == 2
    assert "no retraining, round 2: labelled 6 objects" in told[-1]


@pytest.mark.parametrize(("low", "goes_on"), [(0.01, True), (-0.01, False)])
def test_the_loop_goes_on_with_what_promote_would_take(
    parent: Path,
    files: list[LabelledFile],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    low: float,
    goes_on: bool,
) -> None:
    real = simulation.fine_tune

    def better_on_average(*args: Any, **kwargs: Any) -> FineTuned:
        result = real(*args, **kwargs)
        assert result.is_better
        return replace(result, comparison=replace(result.comparison, low=low, high=0.2, worse=()))

    monkeypatch.setattr(simulation, "fine_tune", better_on_average)
    options = replace(OPTIONS, rounds=1, gate=Gate.PROMOTED, strategies=(Strategy.CHOSEN,))
    pictures = SimulatedPictures(tuple(files[:2]), tuple(files[2:7]), tuple(files[7:]))
    played = simulate(parent, pictures, tmp_path / "work", options)
    first, last = played.courses[Strategy.CHOSEN]
    assert (last.model_id != first.model_id) is goes_on


def test_a_model_that_learned_proposes_again(
    parent: Path,
    files: list[LabelledFile],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing that the first model proposed was an object; the next one is judged by its own."""
    asked: list[tuple[str, float]] = []

    def nothing_real(model: Any, rgb: Any, *, min_score: float, encode: Any) -> list[Proposal]:
        asked.append((model.model_id, min_score))
        dot = WindowMask((slice(0, 2), slice(0, 2)), np.ones((2, 2), bool))
        return [Proposal(dot, 0.6, (1.0, 1.0))] * 20 if min_score <= 0.6 else []

    def better(*args: Any, **kwargs: Any) -> FineTuned:
        result = real(*args, **kwargs)
        return replace(result, comparison=replace(result.comparison, low=0.01, high=0.2, worse=()))

    real = simulation.fine_tune
    monkeypatch.setattr(simulation, "propose", nothing_real)
    monkeypatch.setattr(simulation, "fine_tune", better)
    options = replace(OPTIONS, rounds=1, gate=Gate.PROMOTED)
    pictures = SimulatedPictures(tuple(files[:2]), tuple(files[2:7]), tuple(files[7:]))
    played = simulate(parent, pictures, tmp_path / "work", options)
    learned, without = (played.courses[one][-1] for one in options.strategies)
    assert (learned.min_score, without.min_score) == (0.5, 1.0)
    assert {(learned.model_id, 0.5), (without.model_id, 1.0)} <= set(asked)


def test_numbers_table_and_plot(parent: Path, files: list[LabelledFile], tmp_path: Path) -> None:
    pictures = SimulatedPictures(tuple(files[:5]), tuple(files[5:7]), tuple(files[7:]))
    played = simulate(
        parent,
        pictures,
        tmp_path / "work",
        SimulationOptions(
            rounds=1, pictures_per_round=1, strategies=(Strategy.NO_LEARNING,), gate=Gate.BETTER,
            annotator=OPTIONS.annotator,
        ),
    )  # fmt: skip
    document = json.loads(json.dumps(to_dict(played), allow_nan=False))
    work = Work(objects=4, clicks=6, untouched=1, corrected=1, added=2, drawn=0, deleted=1)
    first, last = document["courses"]["no retraining"]
    first["test"] = {"a": work._asdict()}
    last["test"] = {"a": total([work, work])._asdict()}
    text = to_markdown(document)
    assert "| no retraining | 0 |  |  |  |  | 1.50 | 25 % |" in text
    assert "starting from tiny.safetensors" in text
    assert "clicks per object +0.00" in text
    draw_plot(document, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as plot:
        assert plot.width > plot.height > 100


def test_the_command_writes_what_it_played(
    parent: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = [
        "engine", "simulate", str(data_dir), "--sets", "cells", "photos", "-o", str(out),
        "--start-from", str(parent), "--rounds", "1", "--pictures", "1", "--held-out", "1",
        "--test", "1", "--steps", "2", "--measures", "1", "--max-clicks", "1",
        "--go-on-with", "better",
    ]  # fmt: skip
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.count("| chosen order |") == 2
    assert (out / "simulation.md").read_text() == printed[:-1]
    document = json.loads((out / "simulation.json").read_text())
    assert document["sets"] == ["cells", "photos"]
    assert document["options"]["annotator"]["max_clicks"] == 1
    assert (out / "simulation.png").stat().st_size > 1000
    assert main([*arguments, "--rounds", "9", "--json"]) == 1
    assert "need 9 in the pool" in json.loads(capsys.readouterr().out)["error"]


def test_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more, message in (
        (["--pool", "0"], "--pool, --held-out, --test, --crop and --max-objects must be 1"),
        (["--rounds", "0"], "rounds and pictures_per_round must be 1 or more"),
        (["--accept-iou", "0.4"], "must lie between 0.5 and 1"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["engine", "simulate", "data", "-o", str(tmp_path), *more])
        assert message in capsys.readouterr().err


def test_a_pool_that_is_too_small_is_told(
    parent: Path, files: list[LabelledFile], tmp_path: Path
) -> None:
    pictures = SimulatedPictures(tuple(files[:3]), tuple(files[5:7]), tuple(files[7:]))
    with pytest.raises(DatasetError, match="2 rounds of 2 pictures need 4 in the pool, got 3"):
        simulate(parent, pictures, tmp_path / "work", OPTIONS)
    with pytest.raises(DatasetError, match="takes 5 held-out pictures, got 2"):
        simulate(
            parent, pictures, tmp_path / "work", replace(OPTIONS, rounds=1, gate=Gate.PROMOTED)
        )
    with pytest.raises(ValueError, match="strategies must be different ones"):
        SimulationOptions(strategies=())


def test_a_missing_library_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(simulation_report.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "sam-plugins\[train\]"'):
        draw_plot({}, tmp_path / "plot.png")


@pytest.mark.slow
def test_learning_costs_few_clicks_on_real_nuclei(test_data: Path, tmp_path: Path) -> None:
    """The shipped model, which knows nuclei: a tiny loop asks for a tenth more clicks at most.

    That learning pays shows in benchmarks/bacteria_film.py, on pictures that it never saw.
    """
    from sam_plugins.model.engine.simulated_pictures import prepare_pictures

    pictures = prepare_pictures(
        list_manifest_files(test_data, ["dsb2018"]),
        tmp_path / "crops", held_out=5, test=2, pool=4, max_objects=20,
    )  # fmt: skip
    played = simulate(
        "default",
        pictures,
        tmp_path / "work",
        SimulationOptions(
            rounds=1, pictures_per_round=2, strategies=(Strategy.RANDOM,),
            training=FineTuningOptions(steps=20, rounds=1, max_objects=5),
        ),
    )  # fmt: skip
    first, last = played.courses[Strategy.RANDOM]
    before, after = (total(one.test.values()) for one in (first, last))
    assert before.untouched > 0
    assert after.clicks <= 1.1 * before.clicks
