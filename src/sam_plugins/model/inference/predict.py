"""The two steps of promptable segmentation: a picture to an embedding, prompts to masks."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sam_plugins.errors import is_out_of_memory
from sam_plugins.model.inference.box_fit import levels_that_fit
from sam_plugins.model.inference.checks import count, require_type
from sam_plugins.model.inference.consensus import weighed
from sam_plugins.model.inference.coordinates import CELL, boxes_to_input, points_to_input
from sam_plugins.model.inference.corrections import can_correct, steadied
from sam_plugins.model.inference.loading import Model, load_model
from sam_plugins.model.inference.memory import half_of, in_units, memory_limits, smaller_model_or
from sam_plugins.model.inference.preprocess import check_rgb, padded_size_hw, prepare_input
from sam_plugins.model.inference.rgb import Channels, Limits, to_rgb
from sam_plugins.model.inference.types import ImageEmbedding, MaskPrediction, Prompts
from sam_plugins.model.io.arrays import SliceableArray
from sam_plugins.model.networks.mask_decoder import ALL_MASKS, MaskOutput

__all__ = ["Model", "decode_prompts", "encode_image", "encode_rgb", "load_model", "predict_masks"]

_CHUNK_ON_CPU = 4
_CHUNK_ON_GPU = 64
_BYTES_PER_PROMPT = 64 << 20
"""About what SAM's decoder needs for each of the prompts that it answers at once, in float32."""

_LOG = logging.getLogger(__name__)


def encode_image(
    model: Model,
    image: npt.ArrayLike | SliceableArray,
    *,
    channels: Channels | None = None,
    limits: Limits | Sequence[Limits] | None = None,
    channel_axis: int | None = None,
) -> ImageEmbedding:
    """Encode a picture: slow, once; prompts are then answered quickly.

    Parameters
    ----------
    model : Model
        From :func:`load_model`.
    image : array_like of shape (H, W), (H, W, C) or (C, H, W)
        Any numbers; :func:`~sam_plugins.to_rgb` says how they become the 8-bit RGB picture that the
        model sees.
    channels : int, sequence or array of int, or mapping of colour name to int, optional
        Which channels to show, such as ``{"red": 0, "cyan": 3}``; needed for more than four.
    limits : (float, float) or sequence of (float, float), optional
        Values shown as black and as white; by default robust percentiles of the whole picture.
    channel_axis : int, optional
        Axis of the channels; guessed by default.

    Returns
    -------
    ImageEmbedding

    Raises
    ------
    UnusableImageError
        If the array is empty, holds no finite value or is no picture.
    ValueError, TypeError
        If ``channels``, ``limits`` or ``channel_axis`` do not fit the picture, ``image`` is the
        name of a file, or ``model`` is no loaded model.
    MemoryLimitError
        If memory runs out.
    """
    _require_model(model)
    return encode_rgb(model, to_rgb(image, channels, limits, channel_axis=channel_axis))


def encode_rgb(model: Model, rgb: npt.NDArray[np.uint8]) -> ImageEmbedding:
    """Encode what the model sees as it is: no contrast is set.

    Parameters
    ----------
    model : Model
        From :func:`load_model`.
    rgb : ndarray of shape (H, W, 3), uint8
        From :func:`~sam_plugins.to_rgb`, or an ordinary photograph.

    Returns
    -------
    ImageEmbedding

    Raises
    ------
    ValueError
        If the shape or the type is another.
    TypeError
        If ``rgb`` is no array, or ``model`` no loaded model.
    UnusableImageError
        If it has no pixels.
    MemoryLimitError
        If memory runs out.
    """
    _require_model(model)
    require_type("rgb", rgb, np.ndarray, "to_rgb makes it of any picture")
    check_rgb(rgb)
    height, width = rgb.shape[:2]

    def remedy() -> str:
        least = in_units(sum(p.nbytes for p in model.network.parameters()))
        return (
            f"the model's weights are {least}, and its work on a picture of this size several "
            f"times that: {smaller_model_or(_count_parameters(model))}reduce it to "
            f"{half_of((height, width), model.preprocessing.max_long_side)}, or find its objects "
            "by tiles with segment_large"
        )

    with memory_limits(f"encoding a picture of {height} x {width} pixels", remedy):
        pixels, input_size_hw = prepare_input(rgb, model.preprocessing)
        features = model.encode(pixels)
    return ImageEmbedding(
        features=features.embedding,
        skips=features.skips,
        original_size_hw=(int(height), int(width)),
        input_size_hw=input_size_hw,
        padded_size_hw=padded_size_hw(input_size_hw, model.preprocessing),
        model_id=model.model_id,
        is_blank=_is_blank(rgb),
    )


def _is_blank(rgb: npt.NDArray[np.uint8]) -> bool:
    """Return whether all pixels are the same; nearly always a few of them tell."""
    first = rgb[0, 0]
    return bool((rgb[::16, ::16] == first).all() and (rgb == first).all())


def predict_masks(
    model: Model,
    embedding: ImageEmbedding,
    prompts: Prompts,
    *,
    multimask: bool | None = None,
    steady: bool = True,
    fits_boxes: bool = True,
    chunk_size: int | None = None,
) -> MaskPrediction:
    """Answer the prompts of any number of objects of one picture.

    Parameters
    ----------
    model : Model
        The one that made the embedding.
    embedding : ImageEmbedding
        From :func:`encode_image`.
    prompts : Prompts
        For N objects, in pixels of the picture.
    multimask : bool, optional
        True for three masks for each object, because a click may mean a part or a whole (take the
        one with the highest ``iou_predictions``, as ``best()`` does). False for the single mask
        that was trained for clear prompts. By default the prompts decide, all objects together:
        three masks where every object has a lone positive point and nothing else
        (:attr:`Prompts.is_ambiguous`), otherwise, such as with a box, a second point, an earlier
        mask or a text, the single one.
    steady : bool
        Where points come with the logits of an earlier mask, which they correct, and one mask is
        asked for: change what the new points ask for, and the rest only a part of the way
        (:mod:`~sam_plugins.model.inference.corrections`). False returns the decoder's answer as it
        is.
    fits_boxes : bool
        Where a box and nothing else asks, and the mask is far from filling it, cut the mask at the
        level where it does (:mod:`~sam_plugins.model.inference.box_fit`); of models that weigh
        their masks, such as the shipped one. False where boxes are guesses.
    chunk_size : int, optional
        Objects that are decoded at once. By default 4 on a CPU, where more are slower, and up to 64
        on a GPU: fewer where its memory is full, and half as many again when it runs out.

    Returns
    -------
    MaskPrediction
        Of N objects, 3 masks each or 1.

    Raises
    ------
    ValueError
        If the embedding is another model's, or a prompt does not fit the picture or the model.
    TypeError
        If an argument is of another type.
    MemoryLimitError
        If memory runs out.
    """
    logits: list[npt.NDArray[np.float32]] = []
    guesses: list[npt.NDArray[np.float32]] = []
    for output in decode_prompts(
        model,
        embedding,
        prompts,
        multimask=multimask,
        steady=steady,
        fits_boxes=fits_boxes,
        chunk_size=chunk_size,
    ):
        logits.append(output.logits.float().cpu().numpy())
        guesses.append(output.iou_predictions.float().cpu().numpy())
    is_one = len(logits) == 1
    return MaskPrediction(
        low_res_logits=logits[0] if is_one else np.concatenate(logits),
        iou_predictions=guesses[0] if is_one else np.concatenate(guesses),
        original_size_hw=embedding.original_size_hw,
        input_size_hw=embedding.input_size_hw,
        padded_size_hw=embedding.padded_size_hw,
    )


def usual_chunk_size(device: torch.device) -> int:
    """Return how many objects are best decoded at once: more are slower on a CPU."""
    return _CHUNK_ON_CPU if device.type == "cpu" else _CHUNK_ON_GPU


def free_chunk_size(device: torch.device) -> int:
    """Return the usual number of objects, or as many as a GPU's free memory takes."""
    usual = usual_chunk_size(device)
    if device.type != "cuda":
        return usual
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, min(usual, free // _BYTES_PER_PROMPT))


def release_memory(device: torch.device) -> None:
    """Give back what PyTorch keeps of a GPU's memory for later."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def decode_prompts(
    model: Model,
    embedding: ImageEmbedding,
    prompts: Prompts,
    *,
    multimask: bool | None = None,
    steady: bool = True,
    fits_boxes: bool = True,
    chunk_size: int | None = None,
    min_predicted_iou: float = -math.inf,
) -> Iterator[MaskOutput]:
    """Answer prompts some objects at a time, the answers still tensors on the model's device.

    Parameters and errors are those of :func:`predict_masks`. Objects of whose masks no one is
    expected to reach ``min_predicted_iou`` may have logits of negative infinity, which is quicker.

    Yields
    ------
    MaskOutput
        The next objects, with 3 masks each or 1.
    """
    _check_fit(model, embedding, prompts)
    if multimask is not None and not isinstance(multimask, bool | np.bool_):
        raise TypeError(
            "multimask must be True for three masks, False for one, or None where the prompts "
            f"decide, got {multimask!r}"
        )
    if multimask is None:
        multimask = prompts.is_ambiguous
    size = free_chunk_size(model.device) if chunk_size is None else count("chunk_size", chunk_size)
    if not len(prompts):
        masks = 3 if multimask else 1
        none = torch.zeros((0, masks), device=model.device)
        yield MaskOutput(none.new_zeros((0, masks, *embedding.low_res_hw)), none)
        return
    # Masks are weighed against each other: then all of them are needed.
    weighs = model.config.mask_decoder.weighs_masks and prompts.mask_logits is None
    wanted = slice(1, None) if multimask else slice(0, 1)
    drawn, least = (ALL_MASKS, -math.inf) if weighs else (wanted, min_predicted_iou)
    start = 0
    while start < len(prompts):
        chunk = prompts[start : start + size]
        with memory_limits(
            f"decoding {len(chunk)} prompts at once",
            partial(_fewer, len(chunk), model, embedding),
        ):
            try:
                output = _decode(model, embedding, chunk, which=drawn, min_predicted_iou=least)
            except (MemoryError, RuntimeError) as error:
                if chunk_size is not None or len(chunk) <= 1 or not is_out_of_memory(error):
                    raise
                size = len(chunk) // 2
                _LOG.warning("decoding %d prompts at once, memory ran out for more", size)
                release_memory(model.device)
                continue
        start += size
        if weighs:
            output = weighed(output, multimask=multimask)
            if fits_boxes and not multimask and chunk.is_box_alone.any():
                output = output._replace(logits=_fitted(output.logits, chunk, embedding))
        elif steady and not multimask and can_correct(chunk):
            output = output._replace(logits=_steadied(output.logits, chunk, embedding))
        yield output


def _count_parameters(model: Model) -> int:
    """Return how many weights a model has."""
    return sum(one.numel() for one in model.network.parameters())


def _fewer(count: int, model: Model, embedding: ImageEmbedding) -> str:
    """Say what would fit where so many prompts did not."""
    if count == 1:
        half = half_of(embedding.original_size_hw, model.preprocessing.max_long_side)
        return (
            f"{smaller_model_or(_count_parameters(model))}reduce the picture to {half}, "
            "or close other programs"
        )
    return f"chunk_size={max(1, count // 4)} needs a quarter of it"


def _fitted(logits: Tensor, prompts: Prompts, embedding: ImageEmbedding) -> Tensor:
    """Cut answers to boxes where they fill them; what lies in the padding is not looked at."""
    height, width = embedding.valid_cells_hw
    sizes = embedding.original_size_hw, embedding.input_size_hw
    assert prompts.boxes_xyxy is not None
    edges = prompts.boxes_xyxy + np.array([0, 0, 1, 1])  # of the outermost pixels
    cells = boxes_to_input(edges / CELL, *sizes)
    alone = prompts.is_box_alone
    levels = np.zeros(len(prompts), np.float32)
    seen = logits[:, 0, :height, :width].float().cpu().numpy()
    levels[alone] = levels_that_fit(seen[alone], cells[alone])
    return logits - torch.from_numpy(levels).to(logits)[:, None, None, None]


def _steadied(logits: Tensor, prompts: Prompts, embedding: ImageEmbedding) -> Tensor:
    """Hold answers against the masks that they correct."""
    answer = logits.float().cpu().numpy()
    sizes = embedding.original_size_hw, embedding.input_size_hw
    return torch.from_numpy(steadied(answer, prompts, *sizes)).to(logits.device, logits.dtype)


@torch.inference_mode()
def _decode(
    model: Model,
    embedding: ImageEmbedding,
    prompts: Prompts,
    *,
    which: slice,
    min_predicted_iou: float,
) -> MaskOutput:
    """Run the prompt encoder and the mask decoder."""
    sizes = embedding.original_size_hw, embedding.input_size_hw
    device = model.device
    points, boxes, labels = prompts.points_xy, prompts.boxes_xyxy, prompts.point_labels
    logits, texts = prompts.mask_logits, prompts.text_embeddings

    def tensor(values: npt.NDArray[np.float32], dtype: torch.dtype = model.dtype) -> Tensor:
        return torch.tensor(values, device=device, dtype=dtype)

    def places(values: npt.NDArray[np.float32]) -> Tensor:
        # Half precision knows no half pixels on a large picture.
        return tensor(values, torch.promote_types(model.dtype, torch.float32))

    return model.network.decode(
        model.prepare(embedding),
        points_xy=None if points is None else places(points_to_input(points, *sizes)),
        point_labels=None if labels is None else torch.tensor(labels, device=device),
        boxes_xyxy=None if boxes is None else places(boxes_to_input(boxes, *sizes)),
        mask_logits=None if logits is None else tensor(logits),
        text_embeddings=None if texts is None else tensor(texts),
        which=which,
        min_predicted_iou=min_predicted_iou,
    )


def check_model(model: Model, embedding: ImageEmbedding) -> None:
    """Refuse an embedding of another model.

    Raises
    ------
    ValueError
        With both names.
    TypeError
        If one of them is something else.
    """
    _require_model(model)
    require_type("embedding", embedding, ImageEmbedding, "encode_image returns it")
    if embedding.model_id != model.model_id:
        raise ValueError(
            f"embedding must come from the model that reads it, {model.model_id}, got one of "
            f"{embedding.model_id}; encode the picture again"
        )


def _require_model(model: Model) -> None:
    """Refuse what is no loaded model, such as its name."""
    require_type("model", model, Model, "load it with load_model, and pass it first")


def _check_fit(model: Model, embedding: ImageEmbedding, prompts: Prompts) -> None:
    """Refuse an embedding of another model, and prompts that do not fit the picture."""
    check_model(model, embedding)
    require_type(
        "prompts", prompts, Prompts, "make them with Prompts(...) or Prompts.for_object(...)"
    )
    prompts.check_inside(embedding.original_size_hw)
    logits = prompts.mask_logits
    if logits is not None and logits.shape[-2:] != embedding.low_res_hw:
        raise ValueError(
            f"mask_logits must be of shape (N, 1, {embedding.low_res_hw[0]}, "
            f"{embedding.low_res_hw[1]}) for this embedding, got {logits.shape}; "
            "pass low_res_logits of an answer on the same embedding"
        )
