"""Instances from boxes: masks for the boxes of a detector, judged by COCO's mask AP.

The protocol of Segment Anything (Kirillov et al. 2023, section 7.4): each box asks for one mask,
the detector's score is the mask's. Where there is no detector the true boxes, moved at random, take
its place, and the model's own estimate is the score. COCO's code (pycocotools) does the counting;
the intervals draw its pictures with replacement.

Where the annotation of a picture is not complete, masks that match nothing do not count.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from sam_plugins.errors import MissingExtraError, how_to_install
from sam_plugins.model.evaluation.bootstrap import FloatArray, Statistic
from sam_plugins.model.evaluation.coco_matching import (
    AREA_RANGES,
    IOU_THRESHOLDS,
    UNMATCHED,
    mask_ious,
    match_in_order,
)
from sam_plugins.model.evaluation.detections import Boxes
from sam_plugins.model.evaluation.single_point import (
    DEFAULT_CHUNK_SIZE,
    Embedding,
    PromptableModel,
    chosen_objects,
)
from sam_plugins.model.inference.full_size import SizeChain, WindowMask
from sam_plugins.model.io.labelled import LabelledImage
from sam_plugins.model.io.rle import encode_mask

LEAST_DETECTIONS = 100
"""Masks of a picture that count at least (COCO's maxDets); more where a picture has more."""

_ANY = "object"
_RECALLS = 101


@dataclass(frozen=True, eq=False)
class PictureInstances:
    """The masks of one picture and what they are compared with, as little as COCO's code needs.

    Attributes
    ----------
    set_name, image_id : str
    size_hw : (int, int)
    complete : bool
        Whether every visible object is annotated.
    objects, masks : tuple of mapping
        Objects, and masks with the best score first: run-length code, area and box, without the
        pixels that do not count.
    scores : tuple of float
        Of the masks.
    object_categories, mask_categories : tuple of str or None
    object_ids : tuple of int
    best_ious : tuple of float
        IoU of each object's best mask, whatever the class.
    found : int
        Objects that a mask of their own finds at IoU 0.5, whatever the class.
    """

    set_name: str
    image_id: str
    size_hw: tuple[int, int]
    complete: bool
    objects: tuple[Mapping[str, Any], ...]
    masks: tuple[Mapping[str, Any], ...]
    scores: tuple[float, ...]
    object_categories: tuple[str | None, ...]
    mask_categories: tuple[str | None, ...]
    object_ids: tuple[int, ...]
    best_ious: tuple[float, ...]
    found: int

    @property
    def mean_iou(self) -> float:
        """Mean of the best IoU over the objects; NaN without objects."""
        return float(np.mean(self.best_ious)) if self.best_ious else float("nan")


class Asked(NamedTuple):
    """Boxes of one picture and their answers, best score first."""

    picture: PictureInstances
    masks: tuple[WindowMask, ...]


class BoxPrompter(Protocol):
    """What answers boxes with masks."""

    def __call__(
        self, image: LabelledImage, boxes_xyxy: NDArray[np.float32]
    ) -> tuple[Sequence[WindowMask], NDArray[np.float64]]:
        """Return one mask for each box, and how good each is thought to be."""
        ...


@dataclass(frozen=True)
class ModelPrompter:
    """Answers of a promptable model."""

    model: PromptableModel[Any]
    chunk_size: int = DEFAULT_CHUNK_SIZE

    @torch.inference_mode()
    def __call__(
        self, image: LabelledImage, boxes_xyxy: NDArray[np.float32]
    ) -> tuple[list[WindowMask], NDArray[np.float64]]:
        """Encode the picture and ask, some boxes at a time."""
        masks: list[WindowMask] = []
        guesses: list[float] = []
        if not len(boxes_xyxy):
            return masks, np.zeros(0)
        embedding = self.model.encode(image.image)
        for start in range(0, len(boxes_xyxy), self.chunk_size):
            chunk = boxes_xyxy[start : start + self.chunk_size]
            found, expected = _answers(self.model, embedding, chunk)
            masks += found
            guesses += expected
        return masks, np.array(guesses)


def filled_boxes(
    image: LabelledImage, boxes_xyxy: NDArray[np.float32]
) -> tuple[list[WindowMask], NDArray[np.float64]]:
    """Return each box as its own mask: the floor that a model has to beat."""
    height, width = image.labels.shape
    masks = []
    for x0, y0, x1, y1 in boxes_xyxy:
        rows = slice(max(0, round(y0)), min(height, round(y1) + 1))
        columns = slice(max(0, round(x0)), min(width, round(x1) + 1))
        filled = np.ones((rows.stop - rows.start, columns.stop - columns.start), bool)
        masks.append(WindowMask((rows, columns), filled))
    return masks, np.ones(len(masks))


def ask_boxes(prompter: BoxPrompter, image: LabelledImage, boxes: Boxes) -> Asked:
    """Ask with the boxes of one picture.

    Parameters
    ----------
    prompter : callable
    image : LabelledImage
    boxes : Boxes
        Their scores rank the masks; where they have none, the prompter's do.
    """
    answers, guesses = prompter(image, boxes.boxes_xyxy)
    scores = guesses if boxes.scores is None else boxes.scores
    order = np.argsort(-scores, kind="stable").tolist()
    masks = tuple(answers[index] for index in order)
    objects = chosen_objects(image, None, 0)
    counted = None if image.ignore is None else ~image.ignore
    size_hw = (int(image.labels.shape[0]), int(image.labels.shape[1]))
    ious = mask_ious(masks, objects, counted=counted)
    pairs = match_in_order(ious, np.zeros(len(objects), bool), (0.5,))
    picture = PictureInstances(
        set_name=image.set_name,
        image_id=image.id,
        size_hw=size_hw,
        complete=image.complete,
        objects=tuple(
            _entry(WindowMask(one.window, one.mask), size_hw, counted) for one in objects
        ),
        masks=tuple(_entry(mask, size_hw, counted) for mask in masks),
        scores=tuple(float(scores[index]) for index in order),
        object_categories=tuple(image.categories.get(one.object_id) for one in objects),
        mask_categories=tuple(boxes.categories[index] for index in order),
        object_ids=tuple(one.object_id for one in objects),
        best_ious=tuple(ious.max(axis=0, initial=0).tolist()),
        found=int((pairs != UNMATCHED).sum()),
    )
    return Asked(picture, masks)


@dataclass(frozen=True, eq=False)
class MaskAP:
    """COCO's mask AP of some pictures, as figures and as what they are computed from.

    Attributes
    ----------
    figures : mapping of str to Statistic
        ``ap``, ``ap50``, ``ap75``, and ``ap_small``, ``ap_medium``, ``ap_large``, each for any
        weights of the pictures; see :data:`~sam_plugins.model.evaluation.bootstrap.Statistic`.
    by_threshold : ndarray of shape (T,), float64
        AP at each IoU threshold.
    precision : ndarray of shape (101,), float64
        At IoU 0.5, by recall 0, 0.01, ..., 1.
    with_classes : bool
        Whether a mask must have the object's class.
    max_detections : int
        Masks of a picture that count.
    """

    figures: Mapping[str, Statistic]
    by_threshold: FloatArray
    precision: FloatArray
    with_classes: bool
    max_detections: int


def mask_ap(pictures: Sequence[PictureInstances], *, with_classes: bool | None = None) -> MaskAP:
    """Count masks as COCO does.

    Parameters
    ----------
    pictures : sequence of PictureInstances
        1 or more.
    with_classes : bool, optional
        Whether a mask must have the object's class; by default where every object and every mask
        has one.

    Raises
    ------
    MissingExtraError
        If pycocotools is not installed.
    """
    if with_classes is None:
        with_classes = has_classes(pictures)
    evaluation = _evaluated(pictures, with_classes)
    precision = evaluation.eval["precision"]  # (T, R, K, A, M)
    counts = {
        name: _counts_of(evaluation, place, len(pictures)) for place, name in enumerate(AREA_RANGES)
    }
    thresholds = list(IOU_THRESHOLDS)
    figures: dict[str, Statistic] = {
        "ap": _Figure(counts["all"], slice(None)),
        "ap50": _Figure(counts["all"], slice(0, 1)),
        "ap75": _Figure(counts["all"], slice(thresholds.index(0.75), thresholds.index(0.75) + 1)),
    }
    figures |= {
        f"ap_{name}": _Figure(counts[name], slice(None)) for name in AREA_RANGES if name != "all"
    }
    everywhere = np.where(precision[:, :, :, 0, -1] < 0, np.nan, precision[:, :, :, 0, -1])
    measured = ~np.isnan(everywhere[0, 0])
    curve = everywhere[:, :, measured].mean(axis=2) if measured.any() else everywhere[:, :, 0] * 0
    return MaskAP(
        figures=figures,
        by_threshold=curve.mean(axis=1),
        precision=curve[0],
        with_classes=with_classes,
        max_detections=int(evaluation.params.maxDets[-1]),
    )


def has_classes(pictures: Sequence[PictureInstances]) -> bool:
    """Return whether every object and every mask of some pictures has a class."""
    names = [name for one in pictures for name in (*one.object_categories, *one.mask_categories)]
    return bool(names) and all(name is not None for name in names)


def require_pycocotools() -> None:
    """Refuse to begin where COCO's code is missing.

    Raises
    ------
    MissingExtraError
        With the remedy.
    """
    try:
        import pycocotools.cocoeval  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "mask AP is counted by pycocotools, which is not installed; "
            f"{how_to_install('evaluate')}"
        ) from error


def _evaluated(pictures: Sequence[PictureInstances], with_classes: bool) -> Any:  # noqa: ANN401
    """Return pycocotools' evaluation, accumulated."""
    require_pycocotools()
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    names = sorted(
        {
            name or _ANY
            for one in pictures
            for name in (*one.object_categories, *one.mask_categories)
        }
    ) or [_ANY]
    number_of = {name: number for number, name in enumerate(names, start=1)}

    def number(name: str | None) -> int:
        return number_of[name or _ANY] if with_classes else 1

    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for index, one in enumerate(pictures, start=1):
        for true, category in zip(one.objects, one.object_categories, strict=True):
            annotations.append(
                {
                    **true,
                    "image_id": index,
                    "id": len(annotations) + 1,
                    "category_id": number(category),
                    "iscrowd": 0,
                }
            )
        for mask, score, category in zip(one.masks, one.scores, one.mask_categories, strict=True):
            results.append(
                {
                    **mask,
                    "image_id": index,
                    "id": len(results) + 1,
                    "category_id": number(category),
                    "iscrowd": 0,
                    "score": score,
                }
            )
    images = [
        {"id": index, "height": one.size_hw[0], "width": one.size_hw[1]}
        for index, one in enumerate(pictures, start=1)
    ]
    categories = [{"id": n, "name": name} for name, n in number_of.items()]
    most = max((len(one.masks) for one in pictures), default=0)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        true_set, found_set = COCO(), COCO()
        for made, entries in ((true_set, annotations), (found_set, results)):
            made.dataset = {
                "images": images,
                "annotations": entries,
                "categories": categories if with_classes else categories[:1],
            }
            made.createIndex()
        evaluation = COCOeval(true_set, found_set, "segm")
        evaluation.params.maxDets = [max(LEAST_DETECTIONS, most)]
        evaluation.params.useCats = 1
        evaluation.evaluate()
        _forgive_incomplete(evaluation, pictures)
        evaluation.accumulate()
    return evaluation


def _entry(
    mask: WindowMask, size_hw: tuple[int, int], counted: NDArray[np.bool_] | None
) -> dict[str, Any]:
    """Return a mask as COCO's files have it, without the pixels that do not count."""
    window, inside = mask
    if counted is not None:
        inside = inside & counted[window]
    rows, columns = window
    offset = (rows.start, columns.start)
    return {
        "segmentation": encode_mask(inside, offset_yx=offset, size_hw=size_hw),
        "area": int(np.count_nonzero(inside)),
        "bbox": [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start],
    }


def _forgive_incomplete(evaluation: Any, pictures: Sequence[PictureInstances]) -> None:  # noqa: ANN401
    """Ignore masks that match nothing where not every object is annotated."""
    for entry in evaluation.evalImgs:
        if entry is not None and not pictures[entry["image_id"] - 1].complete:
            entry["dtIgnore"] = entry["dtIgnore"].astype(bool) | (entry["dtMatches"] == 0)


@dataclass(frozen=True, eq=False)
class _Counts:
    """The masks of one class, best score first, and the objects of each picture.

    ``pictures`` of shape (n,), ``is_true`` and ``is_false`` of shape (T, n), ``objects`` of shape
    (pictures,).
    """

    pictures: NDArray[np.int64]
    is_true: NDArray[np.bool_]
    is_false: NDArray[np.bool_]
    objects: NDArray[np.int64]


def _counts_of(evaluation: Any, area: int, count: int) -> list[_Counts]:  # noqa: ANN401
    """Return pycocotools' matches by class, for one range of sizes."""
    params = evaluation.params
    images, areas = len(params.imgIds), len(params.areaRng)
    result = []
    for category in range(len(params.catIds)):
        start = category * areas * images + area * images
        entries = [one for one in evaluation.evalImgs[start : start + images] if one is not None]
        objects = np.zeros(count, np.int64)
        for entry in entries:
            objects[entry["image_id"] - 1] = np.count_nonzero(np.asarray(entry["gtIgnore"]) == 0)
        if not objects.any():
            continue
        limit = params.maxDets[-1]
        scores = np.concatenate([entry["dtScores"][:limit] for entry in entries])
        owners = np.concatenate(
            [np.full(len(entry["dtScores"][:limit]), entry["image_id"] - 1) for entry in entries]
        )
        matches, ignored = (
            np.concatenate([np.asarray(entry[key])[:, :limit] for entry in entries], axis=1)
            for key in ("dtMatches", "dtIgnore")
        )
        order = np.argsort(-scores, kind="mergesort")
        matched, counts = matches[:, order] > 0, ~ignored[:, order].astype(bool)
        result.append(
            _Counts(owners[order].astype(np.int64), matched & counts, ~matched & counts, objects)
        )
    return result


@dataclass(frozen=True, eq=False)
class _Figure:
    """Mean AP over classes and some IoU thresholds, for any weights of the pictures."""

    classes: Sequence[_Counts]
    thresholds: slice

    def __call__(self, weights: FloatArray) -> FloatArray:
        """Return the figure of each draw of pictures, (r, n) to (r,)."""
        return np.array([self._of(one) for one in weights])

    def _of(self, weights: FloatArray) -> float:
        """Return the figure for one draw."""
        values = []
        for one in self.classes:
            total = float(weights @ one.objects)
            if total == 0:
                continue  # no object of the class was drawn
            each = weights[one.pictures]
            right = np.cumsum(one.is_true[self.thresholds] * each, axis=1)
            wrong = np.cumsum(one.is_false[self.thresholds] * each, axis=1)
            values += [_area(r / total, r, w) for r, w in zip(right, wrong, strict=True)]
        return float(np.mean(values)) if values else float("nan")


def _area(recall: FloatArray, right: FloatArray, wrong: FloatArray) -> float:
    """Return the area under precision at 101 recalls, precision never rising, as COCO has it."""
    precision = right / np.maximum(right + wrong, np.spacing(1))
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, np.linspace(0, 1, _RECALLS), side="left")
    return float(np.append(falling, 0.0)[np.minimum(places, len(falling))].mean())


def _answers(
    model: PromptableModel[Embedding], embedding: Embedding, boxes_xyxy: NDArray[np.float32]
) -> tuple[list[WindowMask], list[float]]:
    """Return the mask of each box and the model's estimate of it."""
    answer = model.predict_boxes(embedding, boxes_xyxy)
    logits = answer.logits.float().cpu().numpy()[:, 0]
    height, width = logits.shape[-2:]
    sizes = SizeChain(
        (height, width),
        embedding.padded_size_hw,
        embedding.input_size_hw,
        embedding.original_size_hw,
    )
    guesses = answer.iou_predictions.float().cpu().numpy()[:, 0]
    return [sizes.draw(one) for one in logits], [float(value) for value in guesses]
