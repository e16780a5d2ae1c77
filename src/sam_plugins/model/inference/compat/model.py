"""A network with the attributes and methods that programs expect of segment_anything's model."""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sam_plugins.model.inference.compat.parts import (
    MaskDecoderFace,
    Points,
    PromptEncoderFace,
    encoder_face,
    face_of,
)
from sam_plugins.model.inference.coordinates import SizeHW
from sam_plugins.model.inference.full_size import SizeChain
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.memory import half_of, memory_limits, smaller_model_or
from sam_plugins.model.inference.predict import usual_chunk_size
from sam_plugins.model.inference.preprocess import padded_size_hw
from sam_plugins.model.inference.prompts import PADDING
from sam_plugins.model.networks.config import Preprocessing
from sam_plugins.model.networks.features import ImageFeatures, PreparedImage
from sam_plugins.model.networks.mask_decoder import MaskOutput
from sam_plugins.model.networks.sam import Sam


class SamModel(nn.Module):
    """A model under segment_anything's interface; its weights have the official names.

    Shape legend: B prompts, N points, C masks, H and W of the picture.

    Parameters
    ----------
    model : Model
        From :func:`~sam_plugins.load_model`; its parts are shared, not copied.
    """

    mask_threshold: float = 0.0
    image_format: str = "RGB"
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model_id = model.model_id
        network = model.network
        self.image_encoder = encoder_face(
            network.image_encoder, model.config.image_encoder.image_size
        )
        self.prompt_encoder = face_of(network.prompt_encoder, PromptEncoderFace)
        self.mask_decoder = face_of(network.mask_decoder, MaskDecoderFace)
        self.instance_decoder = network.instance_decoder
        # In a tuple, so that the weights are registered once, under the official names.
        self._networks = (network,)
        for name in ("pixel_mean", "pixel_std"):
            values = torch.tensor(getattr(model.preprocessing, name), device=model.device)
            self.register_buffer(name, values[:, None, None], persistent=False)
        self._prepared = _LastPrepared()
        self.training = network.training

    @property
    def network(self) -> Sam:
        """The network as the rest of this package knows it."""
        return self._networks[0]

    @property
    def preprocessing(self) -> Preprocessing:
        """How a picture becomes the network's input."""
        return self.network.config.preprocessing

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.pixel_mean.device

    @property
    def is_sam(self) -> bool:
        """Whether the parts pass on what SAM's do, and nothing else."""
        return self.network.mask_decoder.skips is None and (
            self.network.prompt_encoder.prompt_map is None
        )

    @torch.no_grad()
    def forward(
        self,
        batched_input: Sequence[Mapping[str, Any]],
        multimask_output: bool,
    ) -> list[dict[str, Tensor]]:
        """Predict the masks of several pictures, from pixels to masks.

        Parameters
        ----------
        batched_input : sequence of dict
            For each picture ``"image"``, resized, of shape (3, h, w); ``"original_size"`` (H, W);
            and prompts in pixels of that image: ``"point_coords"`` (B, N, 2) with
            ``"point_labels"`` (B, N), ``"boxes"`` (B, 4), ``"mask_inputs"`` (B, 1, h', w').
        multimask_output : bool
            Three masks for each prompt, or one.

        Returns
        -------
        list of dict
            For each picture ``"masks"`` (B, C, H, W) of bool, ``"iou_predictions"`` (B, C) and
            ``"low_res_logits"`` (B, C, h', w').

        Raises
        ------
        ValueError
            If a picture lacks a key.
        """
        answers = []
        for index, record in enumerate(batched_input):
            _check_record(record, index)
            image = record["image"]
            input_size = (int(image.shape[-2]), int(image.shape[-1]))
            points = None
            if "point_coords" in record:
                points = (record["point_coords"], record["point_labels"])
            features = self.encode(self.preprocess(image)[None])
            output = self.answer(
                features,
                points,
                record.get("boxes"),
                record.get("mask_inputs"),
                multimask=multimask_output,
            )
            answers.append(
                {
                    "masks": self.draw(output.logits, input_size, record["original_size"]),
                    "iou_predictions": output.iou_predictions,
                    "low_res_logits": output.logits,
                }
            )
        return answers

    def preprocess(self, x: Tensor) -> Tensor:
        """Normalise RGB values of 0 to 255 of shape (..., 3, h, w) and pad with zeros.

        Raises
        ------
        ValueError
            If the picture is larger than the input.
        """
        height, width = int(x.shape[-2]), int(x.shape[-1])
        full_height, full_width = padded_size_hw((height, width), self.preprocessing)
        if height > full_height or width > full_width:
            raise ValueError(
                f"x must fit into {full_height} x {full_width} pixels, got {height} x {width}; "
                "resize it first, with ResizeLongestSide"
            )
        normalised = (x - self.pixel_mean) / self.pixel_std
        return nn.functional.pad(normalised, (0, full_width - width, 0, full_height - height))

    def postprocess_masks(
        self, masks: Tensor, input_size: Sequence[int], original_size: Sequence[int]
    ) -> Tensor:
        """Return low-resolution logits (B, C, h', w') at the picture's size, (B, C, H, W).

        Parameters
        ----------
        masks : Tensor
        input_size, original_size : (int, int)
            Height and width of the picture after resizing, without padding, and before.
        """
        return self.sizes(masks, input_size, original_size).enlarge(masks)

    def draw(
        self, logits: Tensor, input_size: Sequence[int], original_size: Sequence[int]
    ) -> Tensor:
        """Return masks of bool at the picture's size; see :meth:`postprocess_masks`."""
        sizes = self.sizes(logits, input_size, original_size)
        height, width = sizes.original_size_hw
        what = f"drawing {logits.shape[0]} x {logits.shape[1]} masks of {height} x {width} pixels"
        with memory_limits(what, lambda: "ask with fewer prompts at a time"):
            drawn = torch.zeros(
                *logits.shape[:2], height, width, dtype=torch.bool, device=logits.device
            )
            for masks, objects in zip(drawn, logits, strict=True):
                if logits.device.type != "cpu":
                    masks.copy_(sizes.enlarge(objects[None])[0] > self.mask_threshold)
                    continue
                for mask, one in zip(masks.numpy(), objects.float().numpy(), strict=True):
                    window, inside = sizes.draw(one, self.mask_threshold)
                    mask[window] = inside
        return drawn

    def sizes(
        self, logits: Tensor, input_size: Sequence[int], original_size: Sequence[int]
    ) -> SizeChain:
        """Return the way from low-resolution logits (..., h', w') to the picture."""
        input_hw = _size(input_size)
        return SizeChain(
            _size(logits.shape[-2:]),
            padded_size_hw(input_hw, self.preprocessing),
            input_hw,
            _size(original_size),
        )

    def encode(self, images: Tensor) -> ImageFeatures:
        """Encode what :meth:`preprocess` returned, with the finer maps of models that have them."""
        height, width = int(images.shape[-2]), int(images.shape[-1])
        with memory_limits(
            f"encoding {len(images)} pictures of {height} x {width} pixels",
            lambda: self._smaller(len(images), (height, width)),
        ):
            images = images.to(next(self.parameters()).dtype)
            if not self.is_sam:
                return self.network.encode(images)
            return ImageFeatures(self.image_encoder(images))

    def _smaller(self, count: int, size_hw: SizeHW) -> str:
        """Say what would fit where so many pictures did not."""
        smaller = smaller_model_or(sum(one.numel() for one in self.parameters()))
        if count > 1:
            return f"{smaller}encode fewer pictures at a time"
        half = half_of(size_hw, self.preprocessing.max_long_side)
        return f"{smaller}reduce the picture to {half}, or close other programs"

    def answer(
        self,
        features: ImageFeatures,
        points: Points | None,
        boxes: Tensor | None,
        masks: Tensor | None,
        *,
        multimask: bool,
        min_predicted_iou: float = -math.inf,
    ) -> MaskOutput:
        """Answer prompts about one picture, a few at a time where that is faster.

        Parameters
        ----------
        features : ImageFeatures
            From :meth:`encode`.
        points, boxes, masks : optional
            As :class:`~sam_plugins.model.inference.compat.parts.PromptEncoderFace` takes them.
        multimask : bool
            Three masks for each prompt, or one.
        min_predicted_iou : float
            Prompts whose masks are all expected to be worse may have logits of negative infinity.

        Raises
        ------
        ValueError
            If the prompts are of no object.
        """
        floating = features.embedding.dtype
        # Half precision knows no half pixels on a large picture.
        exact = torch.promote_types(floating, torch.float32)
        values = [
            None if value is None else value.to(self.device, dtype)
            for value, dtype in (
                (None if points is None else points[0], exact),
                (None if boxes is None else boxes.reshape(-1, 4), exact),
                (masks, floating),
            )
        ]
        labels = None if points is None else points[1].to(self.device)
        count = next((len(value) for value in values if value is not None), 1)
        if not count:
            raise ValueError(
                "prompts must ask for one object or more, got none; leave out pictures in which "
                "there is nothing to ask for"
            )
        step = usual_chunk_size(self.device)
        answers = []
        for start in range(0, count, step):
            chunk = slice(start, start + step)
            coordinates, corners, logits = (
                None if value is None else value[chunk] for value in values
            )
            answers.append(
                self._answer_chunk(
                    features,
                    coordinates,
                    None if labels is None else labels[chunk],
                    corners,
                    logits,
                    multimask=multimask,
                    min_predicted_iou=min_predicted_iou,
                )
            )
        if len(answers) == 1:
            return answers[0]
        return MaskOutput(*(torch.cat(part) for part in zip(*answers, strict=True)))

    def _answer_chunk(
        self,
        features: ImageFeatures,
        points_xy: Tensor | None,
        labels: Tensor | None,
        boxes: Tensor | None,
        masks: Tensor | None,
        *,
        multimask: bool,
        min_predicted_iou: float,
    ) -> MaskOutput:
        """Answer some prompts at once."""
        has_prompt = any(value is not None for value in (points_xy, boxes, masks))
        if (
            not self.is_sam and not has_prompt
        ):  # Their prompt encoder wants a prompt: one of padding.
            points_xy = torch.zeros(1, 1, 2, device=self.device)
            labels = torch.full((1, 1), PADDING, device=self.device)
        if not self.is_sam or (has_prompt and self._has_own_parts()):
            return self.network.decode(
                self._prepared.get(self.network, features),
                points_xy=points_xy,
                point_labels=labels,
                boxes_xyxy=boxes,
                mask_logits=masks,
                which=slice(1, None) if multimask else slice(0, 1),
                min_predicted_iou=min_predicted_iou,
            )
        # Through the parts, because programs exchange them.
        points = None if points_xy is None or labels is None else (points_xy, labels)
        sparse, dense = self.prompt_encoder(points=points, boxes=boxes, masks=masks)
        return MaskOutput(
            *self.mask_decoder(
                image_embeddings=features.embedding,
                image_pe=self.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=multimask,
            )
        )

    def _has_own_parts(self) -> bool:
        """Tell whether prompts go through our parts as they are: none exchanged, none watched."""
        parts = (
            (self.prompt_encoder, PromptEncoderFace, self.network.prompt_encoder),
            (self.mask_decoder, MaskDecoderFace, self.network.mask_decoder),
        )
        return all(
            type(part) is face
            and part.__dict__ is own.__dict__
            and not part._forward_hooks
            and not part._forward_pre_hooks
            for part, face, own in parts
        )


class _LastPrepared:
    """What the decoder computed of the last embedding, until that or a weight is another."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._embedding: weakref.ref[Tensor] | None = None
        self._image: PreparedImage | None = None

    def get(self, network: Sam, features: ImageFeatures) -> ImageFeatures | PreparedImage:
        """Return what a prompt is asked of."""
        if torch.is_grad_enabled():
            return features
        embedding = features.embedding
        weights = [*network.mask_decoder.parameters(), *network.prompt_encoder.parameters()]
        key = tuple(_state(tensor) for tensor in (embedding, *weights))
        is_known = self._embedding is not None and self._embedding() is embedding
        if self._image is None or not is_known or key != self._key:
            self._image = network.prepare(features)
            self._key, self._embedding = key, weakref.ref(embedding)
        return self._image

    def __deepcopy__(self, memo: object) -> _LastPrepared:
        """Stay behind when a model is copied."""
        return _LastPrepared()

    def __reduce__(self) -> tuple[type[_LastPrepared], tuple[()]]:
        """Stay behind when a model goes to another process."""
        return _LastPrepared, ()


def _state(tensor: Tensor) -> tuple[int, int]:
    """Return numbers that change when a tensor's values do."""
    return tensor.data_ptr(), -1 if tensor.is_inference() else tensor._version


def _size(values: Sequence[int]) -> SizeHW:
    """Return a height and a width as plain integers."""
    height, width = values
    return int(height), int(width)


def _check_record(record: Mapping[str, Any], index: int) -> None:
    """Refuse a picture without what is needed."""
    needed = ["image", "original_size", *(["point_labels"] if "point_coords" in record else [])]
    missing = [key for key in needed if key not in record]
    if missing:
        raise ValueError(
            f"batched_input[{index}] must have {', '.join(map(repr, needed))}, got "
            f"{', '.join(map(repr, record)) or 'nothing'}; {missing[0]!r} is missing"
        )
