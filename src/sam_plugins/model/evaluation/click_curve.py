"""How many clicks an object takes: IoU after each, up to 20.

The protocol is RITM's (Sofiiuk et al. 2021, section 4; from Xu et al. 2016), so that published
numbers of interactive segmentation stand beside ours:

- The first click is the centre of the object, each further one lies in the larger error, false
  background or false foreground (this one where both are as deep), at the pixel farthest from its
  border. A pixel is clicked once.
- *NoC@85* is the number of clicks until the IoU is 0.85 or more, 20 where it never is.
- All clicks so far and the last answer's logits are given to the model each time. Of the three
  answers to a lone first click, the one that the model trusts most counts, as a user would see.

A session may also start from the object's tight box: IoU 0 of the curve is then the box's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from sam_plugins.model.evaluation.prompts import TrueObject
from sam_plugins.model.evaluation.single_point import (
    LowResMasks,
    PromptableModel,
    SizedEmbedding,
    check_max_objects,
    chosen_objects,
)
from sam_plugins.model.inference.full_size import SizeChain
from sam_plugins.model.io.labelled import LabelledImage

BoolArray = NDArray[np.bool_]
OnAnswer = Callable[[int, int, BoolArray], None]

MAX_CLICKS = 20


class Click(NamedTuple):
    """A pixel of the picture, and whether the object is there."""

    x: int
    y: int
    is_positive: bool


@dataclass(frozen=True, slots=True)
class Dialogue:
    """What was said about one object so far.

    Attributes
    ----------
    clicks : tuple of Click
    box_xyxy : (int, int, int, int) or None
    logits : Tensor of shape (1, 1, h, w), float, or None
        Of the last answer.
    """

    clicks: tuple[Click, ...] = ()
    box_xyxy: tuple[int, int, int, int] | None = None
    logits: torch.Tensor | None = None


Embedding = TypeVar("Embedding", bound=SizedEmbedding)


class CorrectableModel(PromptableModel[Embedding], Protocol[Embedding]):
    """What can be corrected click by click."""

    def answer(self, embedding: Embedding, dialogue: Dialogue) -> LowResMasks:
        """Return the one mask that a user would see, logits (1, 1, h, w)."""
        ...


@dataclass(frozen=True, slots=True)
class ClickScore:
    """How one object was found, click by click.

    Attributes
    ----------
    set_name, image_id : str
        The picture.
    object_id, area : int
        Label and pixels of the object.
    ious : tuple of float
        IoU after each click; the last one stands for all that were not needed any more.
    box_iou : float
        IoU of the box that the session started from; NaN where it did not.
    """

    set_name: str
    image_id: str
    object_id: int
    area: int
    ious: tuple[float, ...]
    box_iou: float = float("nan")

    def clicks_until(self, iou: float) -> int:
        """Return the number of clicks until an IoU is reached, or :data:`MAX_CLICKS`.

        A box that reaches it needs none.

        Examples
        --------
        >>> ClickScore("cells", "1", 1, 9, (0.5, 0.9)).clicks_until(0.85)
        2
        """
        if self.box_iou >= iou:
            return 0
        reached = (number for number, value in enumerate(self.ious, 1) if value >= iou)
        return next(reached, MAX_CLICKS)

    def iou_after(self, clicks: int) -> float:
        """Return the IoU after so many clicks, 1 or more."""
        return self.ious[min(clicks, len(self.ious)) - 1]

    @property
    def noc85(self) -> int:
        """Clicks until IoU 0.85."""
        return self.clicks_until(0.85)

    @property
    def noc90(self) -> int:
        """Clicks until IoU 0.90."""
        return self.clicks_until(0.90)

    @property
    def iou_1(self) -> float:
        """IoU after the first click."""
        return self.iou_after(1)

    @property
    def iou_2(self) -> float:
        """IoU after two clicks."""
        return self.iou_after(2)

    @property
    def iou_3(self) -> float:
        """IoU after three clicks."""
        return self.iou_after(3)

    @property
    def iou_5(self) -> float:
        """IoU after five clicks."""
        return self.iou_after(5)

    @property
    def iou_10(self) -> float:
        """IoU after ten clicks."""
        return self.iou_after(10)

    @property
    def iou_20(self) -> float:
        """IoU after twenty clicks."""
        return self.iou_after(20)


def evaluate_clicks(
    model: CorrectableModel[Embedding],
    images: Iterable[LabelledImage],
    *,
    from_box: bool = False,
    enough: float = 1.0,
    max_clicks: int = MAX_CLICKS,
    max_objects: int | None = None,
    mask_threshold: float = 0.0,
    seed: int = 0,
    on_answer: OnAnswer | None = None,
) -> Iterator[ClickScore]:
    """Correct every object of every picture click by click.

    Parameters
    ----------
    model : CorrectableModel
        What is asked.
    images : iterable of LabelledImage
        Read one at a time; each is encoded once.
    from_box : bool
        Whether a session starts with the tight box.
    enough : float
        A session ends at this IoU. The default is a full curve; 0.9 is enough for NoC@90 and
        takes a fraction of the time.
    max_clicks : int
        Clicks after which a session ends, 1 to :data:`MAX_CLICKS`. With fewer than that, the last
        IoU stands for all later clicks, and NoC means nothing.
    max_objects, seed
        See :func:`~sam_plugins.model.evaluation.single_point.evaluate_prompts`.
    mask_threshold : float
        Logits above it are inside the mask.
    on_answer : callable, optional
        Shown the mask after every click: object id, number of clicks, mask of shape (H, W).

    Yields
    ------
    ClickScore
        Picture by picture, objects by ascending label.

    Raises
    ------
    ValueError
        If ``max_objects`` is below 1, or ``max_clicks`` out of range.
    """
    check_max_objects(max_objects)
    if not 1 <= max_clicks <= MAX_CLICKS:
        raise ValueError(f"max_clicks must lie between 1 and {MAX_CLICKS}, got {max_clicks}")
    for image in images:
        objects = chosen_objects(image, max_objects, seed)
        if not objects:
            continue
        with torch.inference_mode():
            embedding = model.encode(image.image)
            session = _Session(model, embedding, image, mask_threshold, max_clicks, on_answer)
            scores = [session.run(one, from_box, enough) for one in objects]
        yield from scores


def next_click(
    wanted: BoolArray,
    found: BoolArray,
    clicks: Sequence[Click] = (),
    counted: BoolArray | None = None,
) -> Click | None:
    """Return where a person would correct a mask: in the larger error, far from its border.

    Parameters
    ----------
    wanted, found : ndarray of shape (H, W), bool
        The object, and the mask so far.
    clicks : sequence of Click
        Pixels that are not clicked again.
    counted : ndarray of shape (H, W), bool, optional
        False where the truth is not known.

    Returns
    -------
    Click or None
        The border of the picture counts as border. None where nothing is left to correct.

    Examples
    --------
    >>> next_click(np.ones((3, 5), bool), np.zeros((3, 5), bool))
    Click(x=1, y=1, is_positive=True)
    """
    wrong = wanted != found
    if counted is not None:
        wrong &= counted
    if not wrong.any():
        return None
    rows, columns = np.flatnonzero(wrong.any(1)), np.flatnonzero(wrong.any(0))
    top, left = int(rows[0]), int(columns[0])
    window = slice(top, int(rows[-1]) + 1), slice(left, int(columns[-1]) + 1)
    best, best_distance = None, 0.0
    for is_positive in (False, True):  # RITM's order where both are as deep
        error = wrong[window] & (wanted[window] if is_positive else found[window])
        distances = ndimage.distance_transform_edt(np.pad(error, 1))[1:-1, 1:-1]
        for click in clicks:
            if window[0].start <= click.y < window[0].stop and (
                window[1].start <= click.x < window[1].stop
            ):
                distances[click.y - top, click.x - left] = 0
        if distances.max() > best_distance:
            best_distance = float(distances.max())
            y, x = np.unravel_index(distances.argmax(), distances.shape)
            best = Click(left + int(x), top + int(y), is_positive)
    return best


def falling_clicks(scores: Sequence[ClickScore]) -> list[int]:
    """Return the numbers of the clicks (2 to 20) after which the mean IoU was lower than before.

    None without scores.
    """
    if not scores:
        return []
    curve = [
        float(np.mean([score.iou_after(number) for score in scores]))
        for number in range(1, MAX_CLICKS + 1)
    ]
    return [number + 1 for number in range(1, MAX_CLICKS) if curve[number] < curve[number - 1]]


@dataclass(frozen=True)
class _Session(Generic[Embedding]):
    """One picture that is being annotated."""

    model: CorrectableModel[Embedding]
    embedding: Embedding
    image: LabelledImage
    mask_threshold: float
    max_clicks: int
    on_answer: OnAnswer | None

    def run(self, one: TrueObject, from_box: bool, enough: float) -> ClickScore:
        """Annotate one object."""
        wanted = np.zeros(self.image.labels.shape, bool)
        wanted[one.window] = one.mask
        counted = None if self.image.ignore is None else ~self.image.ignore
        dialogue = Dialogue(box_xyxy=one.box_xyxy if from_box else None)
        found, box_iou = np.zeros_like(wanted), float("nan")
        if from_box:
            dialogue, found = self._ask(dialogue)
            box_iou = _iou(wanted, found, counted)
        ious: list[float] = []
        while len(ious) < self.max_clicks and not (ious and ious[-1] >= enough):
            click = (
                next_click(wanted, found, dialogue.clicks, counted)
                if from_box or ious
                else Click(*one.point_xy, is_positive=True)
            )
            if click is None:
                ious.append(ious[-1] if ious else box_iou)
                break
            dialogue = Dialogue((*dialogue.clicks, click), dialogue.box_xyxy, dialogue.logits)
            dialogue, found = self._ask(dialogue)
            ious.append(_iou(wanted, found, counted))
            if self.on_answer is not None:
                self.on_answer(one.object_id, len(ious), found)
        return ClickScore(
            self.image.set_name, self.image.id, one.object_id, one.area, tuple(ious), box_iou
        )

    def _ask(self, dialogue: Dialogue) -> tuple[Dialogue, BoolArray]:
        """Return the dialogue with the answer's logits, and its mask at the picture's size."""
        logits = self.model.answer(self.embedding, dialogue).logits
        height, width = logits.shape[-2:]
        sizes = SizeChain(
            (height, width),
            self.embedding.padded_size_hw,
            self.embedding.input_size_hw,
            self.embedding.original_size_hw,
        )
        window, mask = sizes.draw(logits[0, 0].float().cpu().numpy(), self.mask_threshold)
        found = np.zeros(self.image.labels.shape, bool)
        found[window] = mask
        return Dialogue(dialogue.clicks, dialogue.box_xyxy, logits), found


def _iou(wanted: BoolArray, found: BoolArray, counted: BoolArray | None) -> float:
    """Return the IoU of two masks where the truth is known."""
    both, either = wanted & found, wanted | found
    if counted is not None:
        both, either = both & counted, either & counted
    return float(np.count_nonzero(both) / np.count_nonzero(either))
