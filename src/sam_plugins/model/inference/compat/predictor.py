"""Segment_anything's predictor: one picture at a time, any number of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sam_plugins.errors import UnsuitableModelError
from sam_plugins.model.inference.compat.model import SamModel
from sam_plugins.model.inference.compat.transforms import ModelResize, ResizeLongestSide
from sam_plugins.model.inference.coordinates import boxes_to_input, points_to_input
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.prompts import NEGATIVE, PADDING, POSITIVE
from sam_plugins.model.networks.features import ImageFeatures

_FORMATS = ("RGB", "BGR")
_LABELS = (POSITIVE, NEGATIVE, PADDING)


class SamPredictor:
    """Encode a picture once, then answer prompts about it quickly.

    Parameters
    ----------
    sam_model : SamModel or Model
        From :data:`~sam_plugins.sam_model_registry`, or from :func:`~sam_plugins.load_model`.

    Attributes
    ----------
    model : SamModel
    transform : ResizeLongestSide
        Resizes pictures and coordinates as the model needs it.
    is_image_set : bool
    features : Tensor of shape (1, D, h, w) or None
        The image embedding.
    original_size, input_size : (int, int) or None
        Height and width of the picture, and of the network's input without padding.

    Raises
    ------
    TypeError
        If the model is another library's.
    """

    is_image_set: bool
    features: Tensor | None
    original_size: tuple[int, int] | None
    input_size: tuple[int, int] | None
    _encoded: ImageFeatures | None

    def __init__(self, sam_model: SamModel | Model) -> None:
        self.model = _as_sam_model(sam_model)
        self.transform: ResizeLongestSide = ModelResize(self.model.preprocessing)
        self.reset_image()

    def set_image(self, image: npt.NDArray[np.uint8], image_format: str = "RGB") -> None:
        """Encode a picture.

        Parameters
        ----------
        image : ndarray of shape (H, W, 3), uint8
        image_format : {"RGB", "BGR"}
            Order of the colours.

        Raises
        ------
        ValueError
            If the shape or the format is another.
        TypeError
            If the values are not uint8.
        """
        if image_format not in _FORMATS:
            raise ValueError(
                f"image_format must be one of {', '.join(_FORMATS)}, got {image_format!r}"
            )
        picture = check_image(image)
        if image_format != self.model.image_format:
            picture = picture[..., ::-1]
        resized = torch.as_tensor(self.transform.apply_image(picture), device=self.device)
        self.set_torch_image(resized.permute(2, 0, 1)[None], picture.shape[:2])

    @torch.no_grad()
    def set_torch_image(
        self, transformed_image: Tensor, original_image_size: Sequence[int]
    ) -> None:
        """Encode a picture that is resized already.

        Parameters
        ----------
        transformed_image : Tensor of shape (1, 3, h, w)
            RGB values of 0 to 255; for the official models, the longer side is that of their input.
        original_image_size : (int, int)
            Height and width of the picture before resizing.

        Raises
        ------
        ValueError
            If the shape is another.
        """
        preprocessing = self.model.preprocessing
        shape, longest = tuple(transformed_image.shape), preprocessing.max_long_side
        side = max(shape[2:], default=0)
        is_square = preprocessing.pad_to == "square"
        if (
            len(shape) != 4
            or shape[1] != 3
            or not (side == longest if is_square else 1 <= side <= longest)
        ):
            raise ValueError(
                f"transformed_image must have shape (1, 3, h, w), the longer side "
                f"{'of' if is_square else 'up to'} {longest} pixels, got {shape}; "
                "resize it with the predictor's transform"
            )
        self.reset_image()
        features = self.model.encode(self.model.preprocess(transformed_image))
        self.original_size = (int(original_image_size[0]), int(original_image_size[1]))
        self.input_size = (int(shape[2]), int(shape[3]))
        self.features = features.embedding
        self._encoded = features
        self.is_image_set = True

    def predict(
        self,
        point_coords: npt.NDArray[Any] | None = None,
        point_labels: npt.NDArray[Any] | None = None,
        box: npt.NDArray[Any] | None = None,
        mask_input: npt.NDArray[Any] | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Answer the prompts of one object.

        Parameters
        ----------
        point_coords : ndarray of shape (N, 2), optional
            Pixels (x, y) of the picture.
        point_labels : ndarray of shape (N,), optional
            1 on the object, 0 beside it, -1 for padding.
        box : ndarray of shape (4,), optional
            Left, top, right, bottom.
        mask_input : ndarray of shape (1, h, w), optional
            Low-resolution logits of an earlier answer.
        multimask_output : bool
            Three masks, because a click may mean a part or a whole; or one.
        return_logits : bool
            Logits at the picture's size, instead of masks.

        Returns
        -------
        masks : ndarray of shape (C, H, W), bool (or float32)
        iou_predictions : ndarray of shape (C,), float32
        low_res_logits : ndarray of shape (C, h, w), float32

        Raises
        ------
        RuntimeError
            If no picture is set.
        ValueError
            If a prompt has another shape, points have no labels or other ones, a value is not
            finite, or a box is reversed.
        """
        _, *sizes = self.encoded()
        points = labels = boxes = logits = None
        if point_coords is not None:
            coords, label_array = _check_points(point_coords, point_labels)
            points = torch.from_numpy(points_to_input(coords, *sizes))[None]
            labels = torch.as_tensor(label_array, dtype=torch.int32)[None]
        if box is not None:
            corners = np.asarray(box)
            if corners.size != 4:
                raise ValueError(
                    f"box must be one box of shape (4,), got {corners.shape}; "
                    "for several use predict_torch"
                )
            corners = corners.reshape(1, 4)
            _check_boxes("box", corners)
            boxes = torch.from_numpy(boxes_to_input(corners, *sizes))
        if mask_input is not None:
            logits = torch.as_tensor(mask_input, dtype=torch.float32)[None]
        masks, iou_predictions, low_res = self.predict_torch(
            points, labels, boxes, logits, multimask_output, return_logits=return_logits
        )
        return (
            masks[0].cpu().numpy(),
            iou_predictions[0].float().cpu().numpy(),
            low_res[0].float().cpu().numpy(),
        )

    @torch.no_grad()
    def predict_torch(
        self,
        point_coords: Tensor | None,
        point_labels: Tensor | None,
        boxes: Tensor | None = None,
        mask_input: Tensor | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Answer the prompts of B objects, in pixels of the network's input (see ``transform``).

        Parameters
        ----------
        point_coords : Tensor of shape (B, N, 2), optional
        point_labels : Tensor of shape (B, N), optional
        boxes : Tensor of shape (B, 4), optional
        mask_input : Tensor of shape (B, 1, h, w), optional
        multimask_output, return_logits : bool
            As in :meth:`predict`.

        Returns
        -------
        masks : Tensor of shape (B, C, H, W), bool (or float)
        iou_predictions : Tensor of shape (B, C)
        low_res_logits : Tensor of shape (B, C, h, w)

        Raises
        ------
        RuntimeError
            If no picture is set.
        ValueError
            If points have no labels or other ones, a mask has another size, a value is not finite,
            a box is reversed, or several pictures are set.
        """
        features, original_size, input_size = self.encoded()
        _check_prompts(features, point_coords, point_labels, mask_input)
        if boxes is not None:
            _check_boxes("boxes", _numbers(boxes).reshape(-1, 4))
        points = None
        if point_coords is not None and point_labels is not None:
            points = (point_coords, point_labels)
        output = self.model.answer(features, points, boxes, mask_input, multimask=multimask_output)
        if return_logits:
            masks = self.model.postprocess_masks(output.logits, input_size, original_size)
        else:
            masks = self.model.draw(output.logits, input_size, original_size)
        return masks, output.iou_predictions, output.logits

    def get_image_embedding(self) -> Tensor:
        """Return the image embedding of shape (1, D, h, w).

        Raises
        ------
        RuntimeError
            If no picture is set.
        """
        if not self.is_image_set or self.features is None:
            _refuse_without_image()
        return self.features

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    def reset_image(self) -> None:
        """Forget the picture."""
        self.is_image_set = False
        self.features = None
        self.original_size = None
        self.input_size = None
        self._encoded = None

    def encoded(self) -> tuple[ImageFeatures, tuple[int, int], tuple[int, int]]:
        """Return the picture's features, and its size before and after resizing.

        Programs may have put an embedding of their own in place.

        Raises
        ------
        RuntimeError
            If no picture is set.
        UnsuitableModelError
            If the model needs more than the embedding that was put in place.
        """
        embedding = self.get_image_embedding()
        if self.original_size is None or self.input_size is None:
            _refuse_without_image()
        features = self._encoded
        if features is None or features.embedding is not embedding:
            if not self.model.is_sam:
                raise UnsuitableModelError(
                    f"features of {self.model.model_id} are more than the embedding, so they "
                    "cannot be put into another predictor: call set_image, or keep what "
                    "sam_plugins.encode_image returns"
                )
            features = ImageFeatures(embedding.to(self.device))
        return features, self.original_size, self.input_size


def check_image(image: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Return an 8-bit RGB picture, or refuse what is none.

    Parameters
    ----------
    image : array_like of shape (H, W, 3), uint8
        RGB or BGR, with pixels.

    Returns
    -------
    ndarray of shape (H, W, 3), uint8

    Raises
    ------
    ValueError
        If the shape is another, or there are no pixels.
    TypeError
        If the values are not uint8.
    """
    picture = np.asarray(image)
    if picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise ValueError(
            f"image must have shape (H, W, 3), got {picture.shape}; "
            "sam_plugins.encode_image takes other pictures"
        )
    if picture.dtype != np.uint8:
        raise TypeError(
            f"image must be of type uint8 (0 to 255), got {picture.dtype}; "
            "sam_plugins.encode_image takes other numbers"
        )
    return picture


def _as_sam_model(model: SamModel | Model) -> SamModel:
    """Return a model under segment_anything's interface."""
    if isinstance(model, SamModel):
        return model
    if isinstance(model, Model):
        return SamModel(model)
    raise TypeError(
        "the model must come from sam_plugins.sam_model_registry or sam_plugins.load_model, got "
        f"{type(model).__module__}.{type(model).__qualname__}"
    )


def _refuse_without_image() -> NoReturn:
    """Say what comes first."""
    raise RuntimeError("no picture is set: call set_image before asking for masks or an embedding")


def _check_points(
    coords: npt.NDArray[Any], labels: npt.NDArray[Any] | None
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return points with their labels."""
    points = np.asarray(coords)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"point_coords must have shape (N, 2), got {points.shape}")
    if labels is None or np.shape(labels) != points.shape[:1]:
        raise ValueError(
            f"point_labels must have one label for each of {len(points)} points, "
            f"got {'none' if labels is None else f'shape {np.shape(labels)}'}"
        )
    label_array = np.asarray(labels)
    _check_labels(label_array)
    return points, label_array


def _check_prompts(
    features: ImageFeatures,
    point_coords: Tensor | None,
    point_labels: Tensor | None,
    mask_input: Tensor | None,
) -> None:
    """Refuse prompts that do not fit the embedding or each other."""
    pictures, _, rows, columns = features.embedding.shape
    if pictures != 1:
        raise ValueError(
            f"masks can be asked of one picture at a time, got an embedding of {pictures}"
        )
    if point_coords is not None and (
        point_labels is None or point_labels.shape != point_coords.shape[:-1]
    ):
        raise ValueError(
            "point_labels must have one label for each point, shape "
            f"{tuple(point_coords.shape[:-1])}, "
            f"got {None if point_labels is None else tuple(point_labels.shape)}"
        )
    if point_coords is not None and point_labels is not None:
        _check_finite("point_coords", _numbers(point_coords))
        _check_labels(_numbers(point_labels))
    if mask_input is not None and (
        mask_input.ndim != 4 or mask_input.shape[1:] != (1, 4 * rows, 4 * columns)
    ):
        raise ValueError(
            f"mask_input must be low-resolution logits of shape (1, {4 * rows}, {4 * columns}) for "
            f"each object, got {tuple(mask_input.shape[1:])}"
        )
    if mask_input is not None:
        _check_finite("mask_input", _numbers(mask_input))


def _check_labels(labels: npt.NDArray[Any]) -> None:
    """Refuse labels that stand for no kind of point."""
    unknown = labels[~np.isin(labels, _LABELS)]
    if unknown.size:
        raise ValueError(
            "point_labels must be 1 (on the object), 0 (beside it) or -1 (padding), "
            f"got {unknown.ravel()[0]}"
        )


def _check_boxes(name: str, boxes_xyxy: npt.NDArray[Any]) -> None:
    """Refuse reversed boxes; those of one row or column stay, as in segment_anything."""
    _check_finite(name, boxes_xyxy)
    is_reversed = (boxes_xyxy[:, :2] > boxes_xyxy[:, 2:]).any(axis=1)
    if is_reversed.any():
        raise ValueError(
            f"{name} must be left, top, right, bottom with left <= right and top <= bottom, "
            f"got {boxes_xyxy[is_reversed][0].tolist()}"
        )


def _check_finite(name: str, values: npt.NDArray[Any]) -> None:
    """Refuse values that are no numbers, or no finite ones."""
    try:
        is_finite = np.isfinite(values)
    except TypeError as error:
        raise ValueError(f"{name} must be numbers, got {values.dtype}") from error
    if not is_finite.all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")


def _numbers(tensor: Tensor) -> npt.NDArray[Any]:
    """Return a tensor as an array, wherever it is."""
    if tensor.is_floating_point():
        tensor = tensor.float()  # NumPy knows no bfloat16.
    array: npt.NDArray[Any] = tensor.detach().cpu().numpy()
    return array
