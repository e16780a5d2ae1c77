"""The model's side of a session: what is seen to an embedding, turns to an answer.

An answer is a function of the picture and of all turns, in order: each turn is answered with all
points and the box so far, and with the logits of the mask that was chosen the turn before, as the
models were trained. Nothing else is remembered, so that a session can be asked again; what is kept
here only saves time.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sam_plugins.napari_plugin.coordinates import RegionPixels
from sam_plugins.napari_plugin.session.masks import MaskCrop
from sam_plugins.napari_plugin.session.values import (
    Answer,
    BoxPrompt,
    MaskPrompt,
    PointPrompt,
    Prompt,
    Sight,
    Turn,
)

if TYPE_CHECKING:
    from sam_plugins.model.inference.cache import EmbeddingCache
    from sam_plugins.model.inference.full_size import SizeChain
    from sam_plugins.model.inference.loading import Model
    from sam_plugins.model.inference.types import ImageEmbedding, Prompts

Show = Callable[[Sight], npt.NDArray[np.uint8]]
FloatArray = npt.NDArray[np.float32]

_KEPT_EMBEDDINGS = 4
_KEPT_LOGITS = 64
_MASK_LOGIT = 6.0
"""How sure a mask that a person gave is said to be, as a logit."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What the model knows of a sight."""

    embedding: ImageEmbedding
    pixels: RegionPixels

    @property
    def chain(self) -> SizeChain:
        """The way from low-resolution logits to pixels of the region."""
        from sam_plugins.model.inference.full_size import SizeChain

        known = self.embedding
        return SizeChain(
            known.low_res_hw, known.padded_size_hw, known.input_size_hw, self.pixels.region.shape
        )


@dataclass(frozen=True, eq=False)
class _Logits:
    """The answer to some turns before it is drawn: (C, h, w), and the C scores."""

    values: FloatArray
    scores: tuple[float, ...]

    def chosen(self, choice: int | None) -> FloatArray:
        """Return the logits that the person chose, or that the model trusts most, (h, w)."""
        which = int(np.argmax(self.scores)) if choice is None else choice % len(self.scores)
        logits: FloatArray = self.values[which]
        return logits


class Answerer:
    """Answers turns about what is seen; safe with several threads, one at a time.

    Parameters
    ----------
    model : Model
    cache : EmbeddingCache
        Where embeddings are found again.
    show : callable
        Returns the picture of a sight, such as :func:`~sam_plugins.napari_plugin.images.show_model`
        for one image.
    """

    def __init__(self, model: Model, cache: EmbeddingCache, show: Show) -> None:
        self.model = model
        self.cache = cache
        self._show = show
        self._seen: OrderedDict[Sight, Seen] = OrderedDict()
        self._logits: OrderedDict[tuple[Sight, tuple[Turn, ...]], _Logits] = OrderedDict()
        self._turn = threading.RLock()

    def is_ready(self, sight: Sight) -> bool:
        """Return whether a sight is encoded, so that an answer takes no more than a blink."""
        return sight in self._seen

    def encode(self, sight: Sight) -> Seen:
        """Encode what is seen, unless it is known; slow.

        Raises
        ------
        SamPluginsError
            If there is no picture in it, or memory runs out.
        """
        with self._turn:
            return self._look(sight)

    def picture(self, sight: Sight) -> npt.NDArray[np.uint8]:
        """Return the picture of a sight that the model is shown, (h, w, 3)."""
        return self._show(sight)

    def answer(self, sight: Sight, turns: tuple[Turn, ...]) -> Answer:
        """Return the masks for all turns about an object.

        Raises
        ------
        ValueError
            If the first turn says only where the object is not.
        """
        with self._turn:
            given = _mask_alone(turns)
            if given is not None:
                return Answer((given,), (1.0,))
            seen = self._look(sight)
            found = self._logits_of(sight, turns)
            return Answer(
                tuple(_draw(logits, seen, turns) for logits in found.values),
                found.scores,
                self.model.model_id,
            )

    def answer_all(self, sight: Sight, prompts: Sequence[Prompt]) -> list[Answer]:
        """Return the answers to one prompt for each of many objects, decoded together."""
        from sam_plugins.model.inference.predict import predict_masks

        with self._turn:
            seen = self._look(sight)
            answers: dict[int, Answer] = {}
            for kind in (PointPrompt, BoxPrompt):
                where = [i for i, prompt in enumerate(prompts) if isinstance(prompt, kind)]
                if not where:
                    continue
                together = _prompts_of_many([prompts[i] for i in where], seen.pixels)
                found = predict_masks(self.model, seen.embedding, together)
                for i, logits, scores in zip(
                    where, found.low_res_logits, found.iou_predictions, strict=True
                ):
                    known = _Logits(logits, tuple(float(score) for score in scores))
                    turns = (Turn((prompts[i],)),)
                    self._remember((sight, turns), known)
                    masks = tuple(_draw(one, seen, turns) for one in logits)
                    answers[i] = Answer(masks, known.scores, self.model.model_id)
            return [
                answers[i] if i in answers else self.answer(sight, (Turn((prompt,)),))
                for i, prompt in enumerate(prompts)
            ]

    def _look(self, sight: Sight) -> Seen:
        """Return the embedding of what is seen."""
        known = self._seen.get(sight)
        if known is None:
            from sam_plugins.model.inference.cache import embedding_key
            from sam_plugins.model.inference.predict import encode_rgb

            rgb = self._show(sight)
            key = embedding_key(rgb, self.model.preprocessing, self.model.model_id)
            embedding = self.cache.get_or_compute(
                key, lambda: encode_rgb(self.model, rgb), device=self.model.device
            )
            known = Seen(embedding, RegionPixels(sight.region, (rgb.shape[0], rgb.shape[1])))
            # What a first click would otherwise wait for.
            self.model.prepare(embedding)
        self._seen[sight] = known
        self._seen.move_to_end(sight)
        while len(self._seen) > _KEPT_EMBEDDINGS:
            self._seen.popitem(last=False)
        return known

    def _logits_of(self, sight: Sight, turns: tuple[Turn, ...]) -> _Logits:
        """Return the logits for some turns; those of the turns before are asked for first."""
        key = (sight, (*turns[:-1], replace(turns[-1], choice=None)))
        known = self._logits.get(key)
        if known is None:
            known = self._ask(sight, turns)
        self._remember(key, known)
        return known

    def _ask(self, sight: Sight, turns: tuple[Turn, ...]) -> _Logits:
        """Ask the model."""
        from sam_plugins.model.inference.predict import predict_masks

        seen = self._look(sight)
        before: FloatArray | None = None
        given = _mask_alone(turns)
        if given is not None:
            return _Logits(_logits_of_mask(given, seen)[None], (1.0,))
        if len(turns) > 1:
            before = self._logits_of(sight, turns[:-1]).chosen(turns[-2].choice)
        prompts = _prompts_of(turns, seen.pixels, before)
        found = predict_masks(self.model, seen.embedding, prompts)
        scores = tuple(float(score) for score in found.iou_predictions[0])
        return _Logits(found.low_res_logits[0], scores)

    def _remember(self, key: tuple[Sight, tuple[Turn, ...]], known: _Logits) -> None:
        """Keep logits for the next turn."""
        self._logits[key] = known
        self._logits.move_to_end(key)
        while len(self._logits) > _KEPT_LOGITS:
            self._logits.popitem(last=False)


def _mask_alone(turns: tuple[Turn, ...]) -> MaskCrop | None:
    """Return the mask that the last turn gives, if it gives nothing else."""
    prompts = turns[-1].prompts
    last = prompts[-1]
    return last.mask if len(prompts) == 1 and isinstance(last, MaskPrompt) else None


def _prompts_of(
    turns: tuple[Turn, ...], pixels: RegionPixels, logits: FloatArray | None
) -> Prompts:
    """Return everything that was said about one object, in pixels of the picture."""
    from sam_plugins.model.inference.types import Prompts

    said = [prompt for turn in turns for prompt in turn.prompts]
    points = [prompt for prompt in said if isinstance(prompt, PointPrompt)]
    boxes = [prompt for prompt in said if isinstance(prompt, BoxPrompt)]
    box = _box(boxes[-1], pixels) if boxes else None
    if logits is None and box is None and not any(point.is_positive for point in points):
        raise ValueError(
            "the first prompt must say where the object is, got only points beside it; click on it "
            "first"
        )
    return Prompts.for_object(
        [pixels.to_model(point.x, point.y) for point in points] or None,
        [int(point.is_positive) for point in points] or None,
        box,
        logits,
    )


def _prompts_of_many(prompts: Sequence[Any], pixels: RegionPixels) -> Prompts:
    """Return one point or one box for each of many objects."""
    from sam_plugins.model.inference.types import Prompts

    if isinstance(prompts[0], BoxPrompt):
        return Prompts(boxes_xyxy=[_box(prompt, pixels) for prompt in prompts])
    return Prompts.single_points([pixels.to_model(prompt.x, prompt.y) for prompt in prompts])


def _box(box: BoxPrompt, pixels: RegionPixels) -> tuple[float, float, float, float]:
    """Return a box in pixels of the picture; one that vanishes there is given a little width."""
    x0, y0 = pixels.to_model(box.x0, box.y0)
    x1, y1 = pixels.to_model(box.x1, box.y1)
    return x0, y0, max(x1, x0 + 0.5), max(y1, y0 + 0.5)


def _draw(logits: FloatArray, seen: Seen, turns: tuple[Turn, ...]) -> MaskCrop:
    """Return a mask in pixels of the plane, without specks that nobody clicked on."""
    from sam_plugins.model.inference.postprocess import ANSWER_SHARE, clean_mask

    (rows, columns), mask = seen.chain.draw(logits)
    region = seen.pixels.region
    corner = (region.top + rows.start, region.left + columns.start)
    if mask.any():
        on, beside = (
            np.array(
                [
                    (round(point.y) - corner[0], round(point.x) - corner[1])
                    for turn in turns
                    for point in turn.prompts
                    if isinstance(point, PointPrompt) and point.is_positive is is_on
                ],
                np.intp,
            ).reshape(-1, 2)
            for is_on in (True, False)
        )
        mask = clean_mask(
            mask,
            hole_share=ANSWER_SHARE,
            island_share=ANSWER_SHARE,
            on_yx=on,
            beside_yx=beside,
        )
    return MaskCrop.of(mask, corner)


def _logits_of_mask(mask: MaskCrop, seen: Seen) -> FloatArray:
    """Return a mask of the plane as the model's own low-resolution logits would have it."""
    from sam_plugins.model.inference.pooling import logits_of_mask

    shown = mask.on(seen.pixels.region)
    if not shown.any():
        return np.full(seen.embedding.low_res_hw, -_MASK_LOGIT, np.float32)
    return logits_of_mask(shown, seen.embedding)
