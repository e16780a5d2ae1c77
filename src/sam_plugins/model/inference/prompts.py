"""What a user says about objects: points, boxes, earlier masks, texts; checked once, here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_plugins.model.inference.coordinates import SizeHW

POSITIVE, NEGATIVE, PADDING = 1, 0, -1
"""Labels of points: on the object, beside it, and no point at all."""

_LABELS = (POSITIVE, NEGATIVE, PADDING)
_NDIMS = {
    "points_xy": "(N, K, 2)",
    "point_labels": "(N, K)",
    "boxes_xyxy": "(N, 4)",
    "mask_logits": "(N, 1, h, w)",
    "text_embeddings": "(N, E)",
}
_FARTHEST = 1e9
"""Pixels: no picture is as large, and far larger numbers overflow when they are resized."""
_ONE_OBJECT = "Prompts.for_object takes those of one object without the first axis"


@dataclass(frozen=True, init=False, eq=False)
class Prompts:
    """Prompts for N objects of one picture, in pixels of that picture.

    The first axis of everything is the object; what is given describes the same N objects together.
    Values are checked and copied when the prompts are made, and read-only from then on; places are
    checked when the size of the picture is known.

    ``prompts[i]`` are the prompts of object ``i`` alone, N being 1; slices, lists of indices and
    boolean arrays choose several, and iterating goes from object to object.

    Parameters
    ----------
    points_xy : array_like of shape (N, K, 2), float, optional
        K points for each object; x to the right, y down, an integer is a pixel's centre.
    point_labels : array_like of shape (N, K), integer, optional
        1 on the object, 0 beside it, -1 for padding where an object has fewer points. All 1 when
        only points are given.
    boxes_xyxy : array_like of shape (N, 4), float, optional
        Left, top, right, bottom.
    mask_logits : array_like of shape (N, 1, h, w), float, optional
        ``low_res_logits`` of an earlier answer on the same embedding.
    text_embeddings : array_like of shape (N, E), float, optional
        For models that were trained with texts.

    Raises
    ------
    ValueError
        If nothing is given, shapes or lengths do not fit, a label is unknown, a value is no finite
        number, or a box has no area.
    TypeError
        If NumPy cannot read what is given, such as a tensor that requires gradients.

    Examples
    --------
    >>> prompts = Prompts(boxes_xyxy=[[20, 30, 90, 80], [5, 5, 10, 10]])
    >>> len(prompts)
    2
    >>> prompts[-1].boxes_xyxy.tolist()
    [[5.0, 5.0, 10.0, 10.0]]
    """

    points_xy: npt.NDArray[np.float32] | None
    point_labels: npt.NDArray[np.int64] | None
    boxes_xyxy: npt.NDArray[np.float32] | None
    mask_logits: npt.NDArray[np.float32] | None
    text_embeddings: npt.NDArray[np.float32] | None

    def __init__(
        self,
        points_xy: npt.ArrayLike | None = None,
        point_labels: npt.ArrayLike | None = None,
        boxes_xyxy: npt.ArrayLike | None = None,
        mask_logits: npt.ArrayLike | None = None,
        text_embeddings: npt.ArrayLike | None = None,
    ) -> None:
        if point_labels is not None and points_xy is None:
            raise ValueError("point_labels must come with points_xy, got labels alone")
        points = _floats("points_xy", points_xy, 3, last=2)
        values: dict[str, npt.NDArray[Any] | None] = {
            "points_xy": points,
            "point_labels": None if points is None else _labels(point_labels, points),
            "boxes_xyxy": _floats("boxes_xyxy", boxes_xyxy, 2, last=4),
            "mask_logits": _floats("mask_logits", mask_logits, 4),
            "text_embeddings": _floats("text_embeddings", text_embeddings, 2),
        }
        _check_lengths(values)
        _check_boxes(values["boxes_xyxy"])
        logits = values["mask_logits"]
        if logits is not None and logits.shape[1] != 1:
            raise ValueError(
                f"mask_logits must have shape (N, 1, h, w), got {logits.shape}; "
                "choose one of the earlier masks, such as low_res_logits[:, 1:2]"
            )
        self._set(values)

    @classmethod
    def for_object(
        cls,
        points_xy: npt.ArrayLike | None = None,
        point_labels: npt.ArrayLike | None = None,
        box_xyxy: npt.ArrayLike | None = None,
        mask_logits: npt.ArrayLike | None = None,
    ) -> Prompts:
        """Return the prompts of one object, without the leading axis.

        Parameters
        ----------
        points_xy : array_like of shape (K, 2), optional
        point_labels : array_like of shape (K,), optional
            All 1 by default.
        box_xyxy : array_like of shape (4,), optional
        mask_logits : array_like of shape (h, w), optional

        Raises
        ------
        ValueError
            If a shape is another, or as for the prompts of several objects.

        Examples
        --------
        >>> Prompts.for_object([[10, 20], [30, 20]], [1, 0]).points_xy.shape
        (1, 2, 2)
        """
        logits = None
        if mask_logits is not None:
            logits = _array("mask_logits", mask_logits, "(h, w)")
            if logits.ndim > 2 and set(logits.shape[:-2]) == {1}:
                logits = logits.reshape(logits.shape[-2:])
            logits = _with_axis("mask_logits", logits, "(h, w)", 2)
        return cls(
            _with_axis("points_xy", points_xy, "(K, 2)", 2),
            _with_axis("point_labels", point_labels, "(K,)", 1),
            _with_axis("box_xyxy", box_xyxy, "(4,)", 1),
            None if logits is None else logits[None],
        )

    @classmethod
    def single_points(cls, points_xy: npt.ArrayLike) -> Prompts:
        """Return one positive point for each of N objects.

        Parameters
        ----------
        points_xy : array_like of shape (N, 2)
            Pixels (x, y) of the picture.

        Returns
        -------
        Prompts
            Of N objects, ``points_xy`` of shape (N, 1, 2).

        Raises
        ------
        ValueError
            If the shape is another, or a value is not finite.

        Examples
        --------
        >>> Prompts.single_points([[10, 20], [30, 20]]).points_xy.shape
        (2, 1, 2)
        """
        points = _with_axis("points_xy", points_xy, "(N, 2)", 2)
        return cls(None if points is None else points.swapaxes(0, 1))

    def __len__(self) -> int:
        """Return the number of objects."""
        return next(len(value) for value in self._values() if value is not None)

    def __iter__(self) -> Iterator[Prompts]:
        """Yield the prompts of one object after the other."""
        for index in range(len(self)):
            yield self[index]

    def __getitem__(self, which: int | slice | Sequence[int] | npt.NDArray[Any]) -> Prompts:
        """Return the prompts of some of the objects; the axis of the objects stays.

        Parameters
        ----------
        which : int, slice, sequence of int, or ndarray of shape (n,), integer or bool

        Raises
        ------
        IndexError
            If there is no such object, or the index is of another kind.
        """
        try:
            index = np.arange(len(self))[which]
        except IndexError as error:
            raise IndexError(
                f"prompts must be indexed within their {len(self)} objects, got {which!r}: {error}"
            ) from error
        if index.ndim > 1:
            raise IndexError(f"prompts must be indexed along one axis, got {which!r}")
        taken = which if isinstance(which, slice) else np.atleast_1d(index)
        chosen = object.__new__(Prompts)
        chosen._set(
            {
                field.name: None if value is None else value[taken]
                for field, value in zip(fields(self), self._values(), strict=True)
            }
        )
        return chosen

    @property
    def is_ambiguous(self) -> bool:
        """Whether each object has one positive point and nothing else.

        A lone click may mean a part or a whole, and is answered by three masks; everything else is
        clear, and is answered by one (Kirillov et al. 2023, section 3).
        """
        others = (self.boxes_xyxy, self.mask_logits, self.text_embeddings)
        if self.point_labels is None or any(value is not None for value in others):
            return False
        is_point = self.point_labels != PADDING
        is_positive = self.point_labels == POSITIVE
        return bool((is_point.sum(axis=1) == 1).all() and is_positive.any(axis=1).all())

    @property
    def is_box_alone(self) -> npt.NDArray[np.bool_]:
        """Of each object, whether it has a box and nothing else; shape (N,)."""
        others = (self.mask_logits, self.text_embeddings)
        if self.boxes_xyxy is None or any(value is not None for value in others):
            return np.zeros(len(self), bool)
        if self.point_labels is None:
            return np.ones(len(self), bool)
        alone: npt.NDArray[np.bool_] = (self.point_labels == PADDING).all(axis=1)
        return alone

    def _set(self, values: dict[str, npt.NDArray[Any] | None]) -> None:
        """Fill the fields with arrays of our own, which nobody may change."""
        for name, value in values.items():
            if value is not None:
                value.setflags(write=False)
            object.__setattr__(self, name, value)

    def _values(self) -> tuple[npt.NDArray[Any] | None, ...]:
        """Return all fields."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def check_inside(self, size_hw: SizeHW) -> None:
        """Refuse prompts that do not lie in a picture.

        Parameters
        ----------
        size_hw : (int, int)
            Height and width of the picture.

        Raises
        ------
        ValueError
            If a point lies outside, half a pixel around the outermost centres allowed, or a box
            does not touch the picture at all.
        """
        height, width = size_hw
        low, high = -0.5, np.array([width - 0.5, height - 0.5])
        if self.points_xy is not None and self.point_labels is not None:
            is_outside = ((self.points_xy < low) | (self.points_xy > high)).any(axis=-1)
            is_outside &= self.point_labels != PADDING
            if is_outside.any():
                x, y = self.points_xy[is_outside][0]
                raise ValueError(
                    f"points_xy must lie within the picture, x from 0 to {width - 1} and y from 0 "
                    f"to {height - 1}, got ({x:g}, {y:g}); check the order of x and y"
                )
        if self.boxes_xyxy is not None:
            is_beside = (self.boxes_xyxy[:, 2:] < low) | (self.boxes_xyxy[:, :2] > high)
            if is_beside.any():
                box = self.boxes_xyxy[is_beside.any(axis=1)][0].tolist()
                raise ValueError(
                    f"boxes_xyxy must overlap the picture of {width} x {height} pixels, got {box}; "
                    "check the order of x and y"
                )


def _array(name: str, values: npt.ArrayLike, shape: str) -> npt.NDArray[Any]:
    """Return an array of whatever type, or refuse rows of different lengths."""
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(
            f"{name} must be numbers of shape {shape}, got rows of different lengths"
        ) from error
    except (RuntimeError, TypeError) as error:  # a tensor with gradients, or of a GPU
        raise TypeError(
            f"{name} must be numbers of shape {shape}, got a {type(values).__name__} that NumPy "
            f"cannot read; pass {name}.detach().cpu()"
        ) from error


def _with_axis(
    name: str, values: npt.ArrayLike | None, shape: str, ndim: int
) -> npt.NDArray[Any] | None:
    """Return one object's prompts with the axis of the objects in front."""
    if values is None:
        return None
    array = _array(name, values, shape)
    if array.ndim != ndim:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    return array[None]


def _floats(
    name: str, values: npt.ArrayLike | None, ndim: int, last: int | None = None
) -> npt.NDArray[np.float32] | None:
    """Return a copy, of the right shape, whose values are finite."""
    if values is None:
        return None
    array = _array(name, values, _NDIMS[name])
    if array.dtype.kind not in "biufO" or _holds_text(array):
        raise ValueError(f"{name} must be numbers of shape {_NDIMS[name]}, got {array.dtype}")
    try:
        with np.errstate(over="ignore"):  # refused below
            floats: npt.NDArray[np.float32] = array.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers of shape {_NDIMS[name]}, got {error}") from error
    if array.ndim != ndim or (last is not None and array.shape[-1] != last):
        hint = f"; {_ONE_OBJECT}" if array.ndim == ndim - 1 else ""
        if name == "points_xy" and array.shape[-1:] == (4,):
            hint = "; boxes go to boxes_xyxy"
        raise ValueError(f"{name} must have shape {_NDIMS[name]}, got {array.shape}{hint}")
    if not np.isfinite(floats).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    if last is not None and floats.size and np.abs(floats).max() > _FARTHEST:
        raise ValueError(
            f"{name} must be in pixels of the picture, got {np.abs(floats).max():g}; the whole "
            "picture is a box from 0, 0 to its last column and row"
        )
    return floats


def _holds_text(array: npt.NDArray[Any]) -> bool:
    """Return whether an array of objects holds strings, which NumPy would read as numbers."""
    return array.dtype.kind == "O" and any(isinstance(one, str | bytes) for one in array.flat)


def _labels(labels: npt.ArrayLike | None, points: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Return a known label for every point."""
    if labels is None:
        return np.full(points.shape[:2], POSITIVE, np.int64)
    array = _array("point_labels", labels, _NDIMS["point_labels"])
    if array.shape != points.shape[:2]:
        hint = "; boxes go to boxes_xyxy" if array.shape[1:] == (4,) else ""
        raise ValueError(
            f"point_labels must have one label for each point, shape {points.shape[:2]}, "
            f"got {array.shape}{hint}"
        )
    if array.dtype.kind not in "biufO":
        raise ValueError(f"point_labels must be whole numbers, got {array.dtype}")
    unknown = array[~np.isin(array, _LABELS)]
    if unknown.size:
        raise ValueError(
            "point_labels must be 1 (on the object), 0 (beside it) or -1 (padding), "
            f"got {unknown.ravel()[0]}"
        )
    return array.astype(np.int64)


def _check_lengths(values: dict[str, npt.NDArray[Any] | None]) -> None:
    """Refuse prompts that say nothing, or that are about different numbers of objects."""
    lengths = {name: len(value) for name, value in values.items() if value is not None}
    if not lengths:
        raise ValueError(
            "prompts must hold at least one of points, boxes, mask logits or text embeddings, "
            "got nothing"
        )
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"prompts must be for the same number of objects, got {told}")
    labels = values["point_labels"]
    if labels is not None and len(lengths) == 2 and (labels == PADDING).all(axis=1).any():
        raise ValueError("points_xy must hold at least one point for each object, got only padding")


def _check_boxes(boxes: npt.NDArray[Any] | None) -> None:
    """Refuse boxes without area."""
    if boxes is None:
        return
    is_bad = (boxes[:, :2] >= boxes[:, 2:]).any(axis=1)
    if is_bad.any():
        raise ValueError(
            "boxes_xyxy must be left, top, right, bottom with left < right and top < bottom, "
            f"got {boxes[is_bad][0].tolist()}"
        )
