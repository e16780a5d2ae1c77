"""Every object of a picture, with a network whose answers are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from sam_plugins.errors import (
    MemoryLimitError,
    SamPluginsError,
    UnsuitableModelError,
    UnusableImageError,
)
from sam_plugins.model.evaluation.metrics import match_objects
from sam_plugins.model.evaluation.overlaps import overlap_table
from sam_plugins.model.inference import memory
from sam_plugins.model.inference.automatic import instance_maps, segment_embedding
from sam_plugins.model.inference.candidates import MaskFilter
from sam_plugins.model.inference.label_image import LabelOptions
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.predict import encode_image
from sam_plugins.model.inference.segment_options import AUTO, GRID, MODES, SegmentOptions
from sam_plugins.model.inference.types import Segmentation
from sam_plugins.model.large.whole import segment
from sam_plugins.model.networks.config import Preprocessing, SamConfig
from sam_plugins.model.networks.features import ImageFeatures, PreparedImage
from sam_plugins.model.networks.instance_decoder import InstanceMaps
from sam_plugins.model.networks.mask_decoder import MaskOutput
from sam_plugins.model.networks.sam import Sam
from sam_plugins.model.training.targets import instance_targets
from sam_plugins.model.weights.checkpoints import save_model_file
from sam_plugins.model.weights.passport import Passport

Labels = npt.NDArray[np.uint8]
Answers = list[tuple[npt.NDArray[np.bool_], float]]

AS_IT_IS = (0, 255)


def usual_answers(mask: npt.NDArray[np.bool_]) -> Answers:
    """Return a part, the object itself, and the object with too much around it."""
    left = mask & (np.arange(mask.shape[1]) < np.nonzero(mask)[1].mean())
    return [(left, 0.6), (mask, 0.95), (ndimage.binary_dilation(mask, iterations=6), 0.7)]


def flawed_answers(mask: npt.NDArray[np.bool_]) -> Answers:
    """Return the object with a hole, and with an island at the picture's upper left corner."""
    flawed = mask.copy()
    middle_y, middle_x = np.argwhere(mask).mean(axis=0).astype(int)
    flawed[middle_y - 3 : middle_y + 3, middle_x - 3 : middle_x + 3] = False
    flawed[:6, :6] = True
    return [(flawed, 0.95)] * 3


def signed_distance(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return the distance to the border, negative outside."""
    if not mask.any():
        return np.full(mask.shape, -9.0)
    padded = np.pad(mask, 1)  # a mask may fill the picture
    distance = ndimage.distance_transform_edt(padded) - ndimage.distance_transform_edt(~padded)
    return (distance - 0.5 * np.sign(distance))[1:-1, 1:-1]


class LabelReader(nn.Module):
    """Stands where the network is: the grey value of a pixel is the number of its object.

    Maps and masks are those that training aims at, computed from the numbers.
    """

    def __init__(
        self,
        answers: Callable[[npt.NDArray[np.bool_]], Answers] = usual_answers,
        read: Callable[[Labels], Labels] = lambda grey: grey,
        **preprocessing: float,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.instance_decoder: object | None = "here"
        self.answers, self.read = answers, read
        numbers: dict[str, float] = {
            "min_long_side": 1, "max_long_side": 1024, "pad_to": 32, **preprocessing
        }  # fmt: skip
        self.config = SamConfig(
            preprocessing=Preprocessing((0, 0, 0), (1, 1, 1), **numbers)  # type: ignore[arg-type]
        )
        self.prompts_answered = 0
        self.boxes: list[Tensor] = []
        self._answered: dict[int, tuple[Tensor, Tensor]] = {}

    def encode(self, images: Tensor) -> ImageFeatures:
        """Keep the numbers."""
        self._answered.clear()
        grey = self.read(images[0, 0].numpy().round().astype(np.uint8))
        return ImageFeatures(images[:, :1, ::16, ::16], (torch.from_numpy(grey)[None, None],))

    def instances(self, features: ImageFeatures) -> InstanceMaps:
        """Return the maps of the numbers."""
        labels = features.skips[0][0, 0].numpy().astype(np.int64)
        targets = instance_targets(labels, np.ones(labels.shape, bool), complete=True)[:3]
        logits = torch.logit(torch.from_numpy(targets).float(), eps=1e-3)
        return InstanceMaps(*logits[:, None, None])

    def prepare(self, features: ImageFeatures) -> PreparedImage:
        """Add nothing."""
        return PreparedImage(features, features.embedding)

    def decode(
        self,
        image: PreparedImage,
        *,
        points_xy: Tensor | None = None,
        boxes_xyxy: Tensor | None = None,
        which: slice,
        **_: object,
    ) -> MaskOutput:
        """Return what is asked for."""
        if boxes_xyxy is not None:
            assert points_xy is None
            self.boxes += list(boxes_xyxy)
            places_xy = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
        else:
            assert points_xy is not None
            places_xy = points_xy[:, 0]
        self.prompts_answered += len(places_xy)
        labels = image.features.skips[0][0, 0].numpy()
        numbers = [int(labels[y, x]) for x, y in places_xy.round().int().tolist()]
        logits = torch.stack([self._answer(labels, number)[0] for number in numbers])
        predicted = torch.stack([self._answer(labels, number)[1] for number in numbers])
        # The single mask, for clear prompts, is the one that is trusted most.
        each, best = torch.arange(len(logits)), predicted.argmax(dim=1)
        single = logits[each, best][:, None], predicted[each, best][:, None]
        logits = torch.cat([single[0], logits], 1)[:, which]
        return MaskOutput(logits, torch.cat([single[1], predicted], 1)[:, which])

    def _answer(self, labels: Labels, number: int) -> tuple[Tensor, Tensor]:
        """Return logits and scores of three masks, computed once for each picture."""
        if number not in self._answered:
            answers = self.answers(labels == number)
            distances = torch.from_numpy(np.stack([signed_distance(mask) for mask, _ in answers]))
            # Steep, and a cell that is cut in halves is inside for certain: all masks are stable.
            logits = 100 * functional.avg_pool2d(distances.float() + 0.02, 4)
            scores = [score - number / 1e4 if number else 0.1 for _, score in answers]
            self._answered[number] = logits, torch.tensor(scores)
        return self._answered[number]


def model_of(network: nn.Module, name: str = "label-reader") -> Model:
    """Return a model of a stand-in."""
    return Model(cast("Sam", network), name)


@pytest.fixture
def reader() -> LabelReader:
    return LabelReader()


def discs(size_hw: tuple[int, int], discs_xyr: Sequence[tuple[int, int, int]]) -> Labels:
    """Draw discs with the grey values 1, 2, ..., later ones on top."""
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]]
    labels = np.zeros(size_hw, np.uint8)
    for label, (x, y, radius) in enumerate(discs_xyr, 1):
        labels[np.hypot(rows - y, columns - x) < radius] = label
    return labels


CROWD = discs(
    (100, 170),
    [(30, 30, 20), (68, 34, 19), (120, 60, 24), (168, 10, 14), (0, 98, 14), (60, 75, 12)],
)
"""Touching, alone, cut off by the border and by the corner; no side is a multiple of 8."""


def ious_of_pairs(true: Labels, found: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """Return the IoU of every true object with its partner; there must be nothing else."""
    matching = match_objects(overlap_table(true, found), 0.5)
    assert matching.n_true == matching.n_predicted == len(matching.ious)
    return matching.ious


def check_laws(found: Segmentation, size_hw: tuple[int, int]) -> None:
    """Check what holds of every segmentation."""
    assert found.labels.shape == size_hw
    assert found.labels.dtype == np.int32
    assert found.scores.dtype == found.points_xy.dtype == np.float32
    assert np.unique(found.labels[found.labels > 0]).tolist() == list(range(1, len(found) + 1))
    assert found.points_xy.shape == (len(found), 2)
    assert (np.diff(found.scores) <= 0).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert (found.points_xy >= 0).all()
    assert (found.points_xy <= [size_hw[1] - 1, size_hw[0] - 1]).all()


# ------------------------------------------------------------------------------- what is found


@pytest.mark.parametrize("mode", MODES)
def test_every_object_is_found_once(reader: LabelReader, mode: str) -> None:
    found = segment(CROWD, model_of(reader), mode=mode, limits=AS_IT_IS)
    check_laws(found, CROWD.shape)
    assert len(found) == 6
    assert ious_of_pairs(CROWD, found.labels).min() > 0.9
    assert found.areas.sum() == (found.labels > 0).sum()


@pytest.mark.parametrize("mode", MODES)
def test_points_lie_in_their_objects(reader: LabelReader, mode: str) -> None:
    found = segment(CROWD, model_of(reader), mode=mode, limits=AS_IT_IS)
    x, y = found.points_xy.round().astype(int).T
    assert found.labels[y, x].tolist() == [1, 2, 3, 4, 5, 6]


def test_own_points_are_fewer_than_those_of_a_grid(reader: LabelReader) -> None:
    once = replace(AUTO, asks_with="box")
    segment(CROWD, model_of(reader), limits=AS_IT_IS, options=once)
    assert reader.prompts_answered == 6
    segment(CROWD, model_of(reader), limits=AS_IT_IS)
    assert reader.prompts_answered == 18  # a point and a box for each
    segment(CROWD, model_of(reader), mode="grid", limits=AS_IT_IS)
    assert reader.prompts_answered == 18 + 32 * 19


@pytest.mark.parametrize("axes", [0, 1, (0, 1)])
@pytest.mark.parametrize("mode", MODES)
def test_a_mirrored_picture_has_mirrored_objects(
    reader: LabelReader, axes: int | tuple[int, int], mode: str
) -> None:
    straight = segment(CROWD, model_of(reader), mode=mode, limits=AS_IT_IS)
    mirrored = segment(np.flip(CROWD, axes), model_of(reader), mode=mode, limits=AS_IT_IS)
    back = np.flip(mirrored.labels, axes)
    assert ious_of_pairs(straight.labels.astype(np.uint8), back).min() > 0.9
    np.testing.assert_allclose(mirrored.scores, straight.scores, atol=0.05)


def test_a_turned_picture_has_turned_objects(reader: LabelReader) -> None:
    straight = segment(CROWD, model_of(reader), limits=AS_IT_IS)
    turned = segment(CROWD.T, model_of(reader), limits=AS_IT_IS)
    assert ious_of_pairs(straight.labels.astype(np.uint8), turned.labels.T).min() > 0.95


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(8, 14)),
        unique_by=lambda disc: disc[:2],
        max_size=10,
    ),
    st.integers(100, 130),
    st.integers(160, 200),
)
@settings(deadline=None, max_examples=15)
def test_any_picture_of_discs_is_read_rightly(
    cells: list[tuple[int, int, int]], height: int, width: int
) -> None:
    picture = discs((height, width), [(30 * x + 4, 30 * y + 7, r) for x, y, r in cells])
    found = segment(picture, model_of(LabelReader()), limits=AS_IT_IS)
    check_laws(found, picture.shape)
    assert len(found) == len(cells)
    assert (ious_of_pairs(picture, found.labels) > 0.85).all()


@pytest.mark.parametrize(
    "preprocessing",
    [
        {"max_long_side": 96},  # reduced
        {"min_long_side": 512},  # enlarged
        {"min_long_side": 256, "max_long_side": 256, "pad_to": "square"},
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_pictures_are_resized_for_the_network_and_back(
    preprocessing: dict[str, float], mode: str
) -> None:
    one_by_one = LabelReader(read=lambda grey: ndimage.label(grey > 127)[0], **preprocessing)
    alone = discs((100, 170), [(30, 30, 20), (120, 60, 24), (168, 10, 14), (60, 75, 12)])
    found = segment((alone > 0) * np.uint8(255), model_of(one_by_one), mode=mode)
    check_laws(found, alone.shape)
    assert ious_of_pairs(alone, found.labels).min() > 0.85


def test_an_empty_picture_has_no_objects(reader: LabelReader) -> None:
    reports: list[tuple[int, int]] = []
    for mode in MODES:
        found = segment(
            np.zeros((40, 50), np.uint8),
            model_of(reader),
            mode=mode,
            progress=lambda *steps: reports.append(steps),
        )
        check_laws(found, (40, 50))
        assert len(found) == 0
        assert reports[-1][0] == reports[-1][1]


def test_one_pixel_is_a_picture(reader: LabelReader) -> None:
    for mode in MODES:
        options = replace(GRID if mode == "grid" else AUTO, labels=LabelOptions(min_area=0))
        found = segment(np.full((1, 1), 9, np.uint8), model_of(reader), mode=mode, options=options)
        check_laws(found, (1, 1))


def test_any_numbers_make_a_picture(reader: LabelReader) -> None:
    for picture in (CROWD.astype(np.float64), np.stack([CROWD] * 3, 2), CROWD.astype(np.uint16)):
        found = segment(picture, model_of(reader), limits=AS_IT_IS)
        assert ious_of_pairs(CROWD, found.labels).min() > 0.9


def test_an_encoded_picture_gives_the_same(reader: LabelReader) -> None:
    model = model_of(reader)
    embedding = encode_image(model, CROWD, limits=AS_IT_IS)
    for mode in MODES:
        found = segment_embedding(model, embedding, mode=mode)
        np.testing.assert_array_equal(
            found.labels, segment(CROWD, model, mode=mode, limits=AS_IT_IS).labels
        )


def test_only_what_reaches_into_a_part_of_the_picture_is_asked_for(reader: LabelReader) -> None:
    model = model_of(reader)
    embedding = encode_image(model, CROWD, limits=AS_IT_IS)
    part = (slice(20, 90), slice(40, 125))  # cuts the first, the third and the last disc
    found = segment_embedding(model, embedding, within=part)
    check_laws(found, CROWD.shape)
    inside = np.unique(CROWD[part])
    assert inside.tolist() == [0, 1, 2, 3, 6]
    expected = np.where(np.isin(CROWD, inside), CROWD, 0)
    assert ious_of_pairs(expected, found.labels).min() > 0.9
    assert reader.prompts_answered == 2 * 4
    nothing = segment_embedding(model, embedding, within=(slice(2, 4), slice(150, 152)))
    check_laws(nothing, CROWD.shape)
    assert len(nothing) == 0
    assert reader.prompts_answered == 2 * 4


# ------------------------------------------------------------------------------- what is cleaned


def test_holes_and_islands_of_masks_are_mended_unless_switched_off() -> None:
    picture = discs((96, 160), [(50, 50, 24), (110, 50, 24)])
    model = model_of(LabelReader(flawed_answers))
    found = segment(picture, model, limits=AS_IT_IS)
    assert ious_of_pairs(picture, found.labels).min() > 0.95
    assert not found.labels[:6, :6].any()
    as_answered = replace(AUTO, labels=LabelOptions(hole_share=0, island_share=0))
    raw = segment(picture, model, limits=AS_IT_IS, options=as_answered)
    assert raw.labels[2, 2] > 0
    assert raw.labels[50, 50] == raw.labels[50, 110] == 0


def answers_with_a_middle(mask: npt.NDArray[np.bool_]) -> Answers:
    """Return the object, and its middle as another one."""
    middle = ndimage.binary_erosion(mask, iterations=12)
    return [(mask, 0.95), (middle, 0.93), (np.zeros_like(mask), 0.5)]


def test_who_wins_an_overlap_is_a_choice() -> None:
    picture = discs((96, 96), [(48, 48, 30)])
    model = model_of(LabelReader(answers_with_a_middle))

    def found(**changes: object) -> Segmentation:
        options = replace(GRID, points_per_side=8, **changes)  # type: ignore[arg-type]
        return segment(picture, model, mode="grid", limits=AS_IT_IS, options=options)

    smaller = found()
    assert len(smaller) == 2
    assert smaller.labels[48, 48] == 2  # the whole has the better score, and label 1
    assert smaller.labels[48, 24] == 1
    assert len(found(overlap="score")) == 1  # nothing is left of the middle
    nested = found(max_containment=0.75)
    assert len(nested) == 1
    assert nested.labels[48, 48] == nested.labels[48, 24] == 1


def test_suppression_can_be_switched_off() -> None:
    picture = discs((96, 96), [(48, 48, 30)])
    everything = SegmentOptions(
        masks=MaskFilter(0.5, 0, best_per_point=False),
        asks_with="point",
        max_iou=1,
        max_containment=1,
        labels=LabelOptions(0, 0, 0, min_visible=0),
        overlap="smaller",
    )
    found = segment(picture, model_of(LabelReader()), limits=AS_IT_IS, options=everything)
    assert len(found) == 3  # the part, what the object adds to it, and what is around
    assert found.labels[48, 30] != found.labels[48, 66]


def test_the_box_of_what_the_maps_see_around_a_point_asks() -> None:
    picture = discs((96, 128), [(30, 40, 20), (90, 60, 12)])
    reader = LabelReader()
    assert len(segment(picture, model_of(reader), limits=AS_IT_IS, options=AUTO)) == 2
    found = sorted(box.tolist() for box in reader.boxes)
    for box, truth in zip(found, ([10, 20, 50, 60], [78, 48, 102, 72]), strict=True):
        np.testing.assert_allclose(box, truth, atol=6)  # To a cell and a half.
    without = LabelReader()
    options = replace(AUTO, asks_with="point")
    segment(picture, model_of(without), limits=AS_IT_IS, options=options)
    assert not without.boxes


# ------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((0, 5)), "expected a picture with pixels"),
        (np.zeros((5, 0, 3)), "expected a picture with pixels"),
        (np.zeros(5), "expected one picture of shape"),
        (np.full((5, 5), np.nan), "at least one finite pixel"),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_what_is_no_picture_is_refused(
    reader: LabelReader, image: npt.NDArray[np.floating], message: str, mode: str
) -> None:
    with pytest.raises(UnusableImageError, match=message):
        segment(image, model_of(reader), mode=mode)


def test_an_unknown_mode_is_refused(reader: LabelReader) -> None:
    with pytest.raises(ValueError, match="mode must be one of auto, grid, got 'everything'"):
        segment(CROWD, "no such model", mode="everything")
    model = model_of(reader)
    with pytest.raises(ValueError, match="mode must be one of auto, grid, got 'Auto'"):
        segment_embedding(model, encode_image(model, CROWD), mode="Auto")


def test_a_model_without_an_instance_decoder_is_refused_before_it_works(
    tiny_vit_model: Model,
) -> None:
    message = r'mode "auto" needs a model with an instance decoder.*tiny-vit-0+.*use mode="grid"'
    with pytest.raises(UnsuitableModelError, match=message):
        segment(np.zeros(5), tiny_vit_model)
    with pytest.raises(UnsuitableModelError, match=message):
        segment_embedding(tiny_vit_model, encode_image(tiny_vit_model, CROWD))


@pytest.mark.parametrize("mode", MODES)
def test_another_models_embedding_is_refused(reader: LabelReader, mode: str) -> None:
    embedding = encode_image(model_of(reader), CROWD)
    other = model_of(reader, "other")
    with pytest.raises(ValueError, match="must come from the model that reads it, other, got one"):
        segment_embedding(other, embedding, mode=mode)
    with pytest.raises(ValueError, match="must come from the model that reads it, other, got one"):
        instance_maps(other, embedding)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"overlap": "larger"}, "overlap must be one of score, smaller, got 'larger'"),
        ({"max_iou": 0}, r"max_iou must lie in \(0, 1\], got 0"),
        ({"max_containment": 1.5}, r"max_containment must lie in \(0, 1\], got 1.5"),
        ({"points_per_side": 0}, "points_per_side must be 1 or more, got 0"),
        ({"chunk_size": 0}, "chunk_size must be 1 or more, got 0"),
    ],
)
def test_options_out_of_range_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SegmentOptions(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"masks": 0.5}, "masks must be of type MaskFilter, got float; leave it out"),
        ({"seeds": None}, "seeds must be of type SeedOptions, got NoneType"),
        ({"labels": {}}, "labels must be of type LabelOptions, got dict"),
        ({"points_per_side": "8"}, "points_per_side must be a whole number, got '8'"),
        ({"chunk_size": 1.5}, "chunk_size must be a whole number, got 1.5"),
    ],
)
def test_options_of_other_types_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        SegmentOptions(**values)  # type: ignore[arg-type]


def test_arguments_of_other_types_are_refused_where_they_enter(reader: LabelReader) -> None:
    ask: Any = segment
    ask_again: Any = segment_embedding
    see: Any = instance_maps
    model = model_of(reader)
    for wrong in ({"points_per_side": 3}, 3):
        with pytest.raises(TypeError, match=r"options must be of type SegmentOptions, got .*AUTO"):
            ask(CROWD, "no such model", options=wrong)
        with pytest.raises(TypeError, match=r"options must be of type SegmentOptions, got .*AUTO"):
            ask_again(model, encode_image(model, CROWD), options=wrong)
    with pytest.raises(TypeError, match="a name or a path, and come after the picture, got ndarra"):
        ask(model, CROWD)
    for function in (ask_again, see):
        with pytest.raises(TypeError, match="model must be of type Model, got str"):
            function("default", encode_image(model, CROWD))
        with pytest.raises(TypeError, match="embedding must be of type ImageEmbedding, got ndarr"):
            function(model, CROWD)


def test_a_label_image_that_cannot_fit_is_refused_with_what_would(
    reader: LabelReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(reader)
    embedding = encode_image(model, CROWD)
    monkeypatch.setattr(memory, "available_bytes", lambda: 40_000)
    with pytest.raises(
        MemoryLimitError, match=r"label image of 100 x 170 pixels.*one of 100 x 100 would fit: crop"
    ):
        segment_embedding(model, embedding)


@pytest.mark.parametrize(
    ("mode", "part", "message"),
    [
        ("auto", "instances", "segmenting a picture of 100 x 170 .*crop the picture or reduce it$"),
        ("auto", "decode", "decoding 1 prompts at once .*reduce the picture to"),
        ("grid", "decode", "decoding 1 prompts at once .*reduce the picture to"),
    ],
)
def test_running_out_of_memory_says_what_would_fit(
    reader: LabelReader, monkeypatch: pytest.MonkeyPatch, mode: str, part: str, message: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(reader, part, fail)
    with pytest.raises(MemoryLimitError, match=message):
        segment(CROWD, model_of(reader), mode=mode, limits=AS_IT_IS)


def test_drawing_without_memory_says_to_ask_for_fewer_points() -> None:
    calls = 0

    def progress(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if done == total > 1:
            raise MemoryError

    with pytest.raises(MemoryLimitError, match=r"with fewer points \(options.points_per_side\)"):
        segment(CROWD, model_of(LabelReader()), mode="grid", limits=AS_IT_IS, progress=progress)
    assert calls == 1 + 19 * 32 / 4


def test_chunks_change_nothing(reader: LabelReader) -> None:
    model = model_of(reader)
    usual = segment(CROWD, model, limits=AS_IT_IS)
    for chunk_size in (1, 5, 100):
        options = replace(AUTO, chunk_size=chunk_size)
        found = segment(CROWD, model, limits=AS_IT_IS, options=options)
        np.testing.assert_array_equal(found.labels, usual.labels)


# ------------------------------------------------------------------------------- progress


@pytest.mark.parametrize("mode", MODES)
def test_progress_starts_at_nothing_and_ends_with_everything(
    reader: LabelReader, mode: str
) -> None:
    reports: list[tuple[int, int]] = []
    segment(
        CROWD, model_of(reader), mode=mode, limits=AS_IT_IS, progress=lambda *r: reports.append(r)
    )
    assert reports[0] == (0, 1)
    total = reports[-1][1]
    assert {report[1] for report in reports[1:]} == {total}
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    assert reports[-1] == (total, total)


class StopError(SamPluginsError):
    """Somebody pressed a button."""


@pytest.mark.parametrize("error", [KeyboardInterrupt, StopError, RuntimeError])
@pytest.mark.parametrize("stop_at", [0, 1, 2, 5])
def test_an_exception_of_progress_stops_the_work(
    reader: LabelReader, error: type[BaseException], stop_at: int
) -> None:
    calls = 0

    def progress(done: int, total: int) -> None:
        nonlocal calls
        if calls == stop_at:
            raise error
        calls += 1

    with pytest.raises(error):
        segment(CROWD, model_of(reader), limits=AS_IT_IS, progress=progress)
    assert calls == stop_at  # nobody asked again
    assert reader.prompts_answered == 2 * min(4 * stop_at, 6)  # a point and a box for each


# ------------------------------------------------------------------------------- real networks


def test_real_networks_give_label_images(any_model: Model, picture: npt.NDArray[np.uint8]) -> None:
    anything = replace(GRID, points_per_side=4, masks=MaskFilter(0, 0, best_per_point=False))
    check_laws(segment(picture, any_model, mode="grid", options=anything), (60, 90))


def test_a_real_instance_decoder_gives_points(
    tiny_model: Model, picture: npt.NDArray[np.uint8]
) -> None:
    maps = instance_maps(tiny_model, encode_image(tiny_model, picture))
    assert {each.shape for each in maps} == {(16, 24)}  # 64 x 96 pixels
    assert all(((each >= 0) & (each <= 1)).all() for each in maps)
    options = replace(AUTO, masks=MaskFilter(0, 0, agreement_weight=0.5))
    check_laws(segment(picture, tiny_model, options=options), (60, 90))


def test_a_file_is_a_model(
    tiny_model: Model, picture: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    file = save_model_file(
        tmp_path / "tiny.safetensors",
        tiny_model.network.state_dict(),
        Passport(name="tiny", config=tiny_model.config),
        dtype=torch.float32,
    )
    few = replace(GRID, points_per_side=3, masks=MaskFilter(0, 0))
    from_file, at_hand = (
        segment(picture, model, mode="grid", options=few) for model in (file, tiny_model)
    )
    assert len(at_hand) > 0
    np.testing.assert_array_equal(from_file.labels, at_hand.labels)


def test_a_grid_asks_less_of_models_that_promise_less() -> None:
    def unsure(mask: npt.NDArray[np.bool_]) -> Answers:
        return [(mask, 0.6)] * 3

    model = model_of(LabelReader(unsure))
    assert segment(CROWD, model, mode="grid", limits=AS_IT_IS).labels.max() == 6
    assert not segment(CROWD, model, mode="grid", limits=AS_IT_IS, options=GRID).labels.any()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [0, 90, 255])
def test_nothing_is_found_where_nothing_is(mode: str, value: int) -> None:
    """The shipped model saw up to ten objects in a white picture."""
    found = segment(np.full((256, 200), value, np.uint8), mode=mode)  # type: ignore[arg-type]
    assert len(found.scores) == 0
    assert not found.labels.any()
