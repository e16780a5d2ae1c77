from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sam_plugins.errors import TrainingError
from sam_plugins.model.networks.builders import build_sam
from sam_plugins.model.networks.config import SHIPPED, Preprocessing, SamConfig
from sam_plugins.model.networks.instance_decoder import InstanceMaps
from sam_plugins.model.networks.sam import Sam
from sam_plugins.model.training.difficulty import chances_of, foreground_errors, known_errors
from sam_plugins.model.training.pictures import TrainingPicture
from sam_plugins.model.weights.loading import load_checkpoint


@pytest.fixture(scope="module")
def shipped() -> Sam:
    """The network that ships, in float32."""
    loaded = load_checkpoint("default")
    network = build_sam(SHIPPED)
    network.load_state_dict({name: value.float() for name, value in loaded.state_dict.items()})
    return network


def discs(radius: float) -> TrainingPicture:
    """Bright discs, labelled with a radius of their own."""
    y, x = np.mgrid[:128, :128]
    away = np.min([np.hypot(y - cy, x - cx) for cy in (32, 96) for cx in (32, 96)], axis=0)
    rgb = np.repeat(np.where(away < 14, 200, 10).astype(np.uint8)[..., None], 3, axis=-1)
    numbers = 1 + (y > 64) * 2 + (x > 64)
    labels = np.where(away < radius, numbers, 0).astype(np.uint16)
    return TrainingPicture("discs", str(radius), rgb, labels, network_scale=3.0)


def test_outlines_that_are_seen_too_narrow_or_too_wide_are_errors(shipped: Sam) -> None:
    fitting, wider, narrower = foreground_errors(shipped, [discs(14), discs(19), discs(10)])
    assert fitting < 0.1
    assert wider > fitting + 0.1
    assert narrower > fitting + 0.1


def test_what_is_not_known_does_not_count(shipped: Sam) -> None:
    wrong = discs(14)
    labels = wrong.labels.copy()
    labels[:, 64:] = 0
    half = replace(wrong, labels=labels)
    ignore = np.zeros(labels.shape, bool)
    ignore[:, 64:] = True
    unlabelled, ignored, sparse = foreground_errors(
        shipped, [half, replace(half, ignore=ignore), replace(half, complete=False)]
    )
    assert unlabelled > 0.2
    assert ignored < 0.1
    assert sparse < unlabelled - 0.1


class Certain(nn.Module):
    """In place of a network: objects everywhere in the left half of its input, nothing right."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.config = SamConfig(preprocessing=preprocessing)
        self.instance_decoder = nn.Dropout()  # a part with a mode of its own
        self.scale = nn.Parameter(torch.ones(()))
        self.asked: list[tuple[int, ...]] = []
        self.modes: list[bool] = []

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        self.asked.append(tuple(pixels.shape))
        self.modes.append(any(part.training for part in self.modules()))
        return pixels

    def instances(self, pixels: torch.Tensor) -> InstanceMaps:
        foreground = torch.full((1, 1, pixels.shape[-2] // 4, pixels.shape[-1] // 4), -99.0)
        foreground[..., : foreground.shape[-1] // 2] = 99.0
        return InstanceMaps(foreground, -foreground, -foreground)


def certain() -> Certain:
    """Return one that sees pictures at twice their size, padded to multiples of 32 pixels."""
    return Certain(Preprocessing(min_long_side=128, max_long_side=128, pad_to=32))


def labelled(labels: np.ndarray, **values: object) -> TrainingPicture:
    """Return a black picture with labels."""
    rgb = np.zeros((*labels.shape, 3), np.uint8)
    return TrainingPicture("set", "id", rgb, labels.astype(np.uint16), **values)  # type: ignore[arg-type]


def test_errors_are_the_dice_of_the_foreground_where_it_is_known() -> None:
    """64 x 36 pixels are seen as 128 x 72 and padded to 96 rows: 32 x 18 known cells of 24."""
    model = certain()
    right = np.zeros((36, 64))
    right[:, :32] = 1
    none, half, ignore = np.zeros_like(right), right.copy(), np.zeros(right.shape, bool)
    half[18:] = 0
    ignore[18:] = True
    few = none.copy()
    few[:6, :6] = 1  # 3 cells a side; in a rim of 3 cells around, background is trusted
    found = foreground_errors(
        model,  # type: ignore[arg-type]
        [
            labelled(right),
            labelled(none),
            labelled(half),
            labelled(half, ignore=ignore),
            labelled(few, complete=False),
        ],
    )

    def dice(overlap: float, seen: float, there: float) -> float:
        return 1 - (2 * overlap + 1) / (seen + there + 1)

    cells = 16 * 18
    rim = sum(1 for y in range(6) for x in range(6) if max(0, y - 2) + max(0, x - 2) <= 3)
    wanted = [0.0, dice(0, cells, 0), dice(cells / 2, cells, cells / 2), 0.0, dice(9, rim, 9)]
    assert found == pytest.approx(wanted, abs=1e-6)
    assert set(model.asked) == {(1, 3, 96, 128)}


def test_a_network_is_asked_as_in_inference_and_left_as_it_was() -> None:
    for is_training in (True, False):
        model = certain()
        model.train(is_training)
        model.instance_decoder.train(not is_training)
        foreground_errors(model, [labelled(np.ones((36, 64)))])  # type: ignore[arg-type]
        assert model.modes == [False]
        assert (model.training, model.instance_decoder.training) == (is_training, not is_training)
    model = certain()
    with pytest.raises(ValueError, match="rgb must be of shape"):
        foreground_errors(model, [replace(discs(14), rgb=np.zeros((4, 4), np.uint8))])  # type: ignore[arg-type]
    assert model.training


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "difficulty.json"
    told: list[int] = []

    def errors(model_id: str, *pictures: TrainingPicture) -> list[float]:
        told.clear()
        return known_errors(
            path,
            certain(),  # type: ignore[arg-type]
            model_id,
            pictures,
            on_progress=lambda done, _: told.append(done),
        ).tolist()

    none = labelled(np.zeros((36, 64)))
    half = labelled(np.pad(np.ones((18, 32)), ((0, 18), (0, 32))))
    first = errors("one", none, half)  # of one name
    assert told == [1, 2]
    assert first == [0.9965, 0.3326]  # to four places: 288 / 289, and 1 - 289 / 433
    assert errors("one", none, half) == first
    assert told == []
    assert json.loads(path.read_text())["errors"] == [["set/id", 0.9965], ["set/id", 0.3326]]

    assert errors("another", none, half) == first
    assert told == [1, 2]
    assert errors("another", half, none) == first[::-1]
    assert told == [1, 2]
    assert errors("another", half) == first[1:]
    assert told == [1]
    everywhere = np.ones((36, 64), bool)
    for other in (none, replace(half, ignore=everywhere), replace(half, complete=False)):
        errors("another", other)
        assert told == [1]  # of the same name, and another picture


def test_a_measurement_of_an_older_version_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "difficulty.json"
    path.write_text(json.dumps({"model": "one", "errors": {"set/id": 0.5}}))
    none = labelled(np.zeros((36, 64)))
    assert known_errors(path, certain(), "one", [none]).tolist() == [0.9965]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: "{}",
        lambda text: text.replace('"errors"', '"fehler"'),
        lambda text: text.replace("0.9965", "null"),
        lambda text: text.replace("0.9965", "NaN"),
        lambda text: text.replace("0.9965", "-0.9965"),
        lambda text: text.replace(', ["set/id", 0.3326]', ""),
        lambda text: text.replace('"set/id", 0.3326', '"set/id"'),
        lambda text: "\udcff",
    ],
)
def test_a_damaged_measurement_is_told(damage: Callable[[str], str], tmp_path: Path) -> None:
    path = tmp_path / "difficulty.json"
    pictures = [
        labelled(np.zeros((36, 64))),
        labelled(np.pad(np.ones((18, 32)), ((0, 18), (0, 32)))),
    ]
    known_errors(path, certain(), "one", pictures)  # type: ignore[arg-type]
    text = path.read_text()
    assert damage(text) != text
    path.write_bytes(damage(text).encode(errors="surrogateescape"))
    with pytest.raises(
        TrainingError, match=r"difficulty\.json does not tell .*; remove it to have"
    ):
        known_errors(path, certain(), "one", pictures)  # type: ignore[arg-type]


def test_the_worse_a_picture_is_seen_the_more_often_it_is_drawn() -> None:
    assert chances_of(np.array([0.0, 0.45, 0.95])) == pytest.approx([0.05, 0.5, 1.0])


def test_progress_is_told_and_a_network_without_maps_refused(
    shipped: Sam, tiny_config: SamConfig
) -> None:
    told: list[tuple[int, int]] = []
    foreground_errors(
        shipped, [discs(14)] * 2, on_progress=lambda done, total: told.append((done, total))
    )
    assert told == [(1, 2), (2, 2)]
    torch.manual_seed(0)
    blind = build_sam(tiny_config)
    blind.instance_decoder = None
    with pytest.raises(ValueError, match="instance decoder"):
        foreground_errors(blind, [discs(14)])
