"""A loaded model behind the commands: imported when there is work, for it imports torch."""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from sam_plugins.cli.core import (
    ExemplarChoice,
    Found,
    Precision,
    Progress,
    PromptChoice,
    Running,
    TextChoice,
)
from sam_plugins.cli.tiles import TileChoice
from sam_plugins.model.inference.automatic import require_instance_decoder
from sam_plugins.model.inference.cache import EmbeddingCache, embedding_key
from sam_plugins.model.inference.clip import DEFAULT_CLIP, Clip, load_clip
from sam_plugins.model.inference.exemplars import Exemplars, describe_exemplars
from sam_plugins.model.inference.predict import Model, encode_rgb, load_model, predict_masks
from sam_plugins.model.inference.reduction import needs_tiles
from sam_plugins.model.inference.similar import SimilarOptions, find_similar
from sam_plugins.model.inference.text import (
    NEGATIVES,
    find_by_text,
    require_text_slot,
    text_dim,
    text_prompts,
)
from sam_plugins.model.inference.types import ImageEmbedding, MaskPrediction, Prompts
from sam_plugins.model.large.automatic import plan_for_model, segment_large
from sam_plugins.model.large.job import TileJob, model_finder
from sam_plugins.model.large.prompted import segment_prompted
from sam_plugins.model.large.results import LargeSegmentation
from sam_plugins.model.large.sources import FileSource
from sam_plugins.model.large.stack import plan_stack, segment_large_stack, segment_slice
from sam_plugins.model.large.tiles import segment_tile
from sam_plugins.model.large.whole import segment_rgb
from sam_plugins.model.weights.paths import embeddings_directory

_DTYPES: dict[Precision, torch.dtype | Literal["auto"]] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "auto": "auto",
}


@dataclass(frozen=True)
class TorchCore:
    """A model and the cache of its embeddings."""

    model: Model
    cache: EmbeddingCache
    clips: dict[str, Clip] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, name_or_path: str, running: Running) -> TorchCore:
        """Load a model by name or file onto a device; by default the first CUDA GPU or the CPU."""
        model = load_model(
            name_or_path,
            device=running.device,
            dtype=_DTYPES[running.precision],
            backend=running.backend,
        )
        return cls(model, EmbeddingCache(embeddings_directory()))

    @property
    def model_id(self) -> str:
        """Name and digest of the weights."""
        return self.model.model_id

    def automatic(
        self,
        rgb: npt.NDArray[np.uint8],
        mode: str,
        progress: Progress | None,
        *,
        looks_closer: bool = True,
    ) -> Found:
        """Return all objects of a picture, which may be looked at in windows."""
        found = segment_rgb(
            self.model,
            rgb,
            mode=mode,
            looks_closer=looks_closer,
            encode=self._encoded,
            progress=progress,
        )
        return Found(found.labels, found.scores, found.points_xy)

    def needs_tiles(self, size_hw: tuple[int, int]) -> bool:
        """Return whether a picture is so large that segmenting it by tiles pays."""
        return needs_tiles(size_hw, self.model.preprocessing)

    def by_tiles(
        self,
        source: FileSource,
        output: Path,
        mode: str,
        choice: TileChoice,
        *,
        overwrite: bool,
        progress: Progress | None,
    ) -> LargeSegmentation:
        """Write all objects of a picture of any size."""
        return segment_large(
            source,
            output,
            self.model,
            mode=mode,
            tile=choice.tile,
            coarse=choice.coarse,
            overwrite=overwrite,
            progress=progress,
        )

    def planned(
        self,
        source: FileSource,
        output: Path,
        mode: str,
        choice: TileChoice,
        *,
        overwrite: bool,
    ) -> TileJob:
        """Return how a picture of any size is cut into tiles."""
        if mode == "auto":
            require_instance_decoder(self.model)
        return plan_for_model(
            source,
            output,
            self.model,
            mode=mode,
            tile=choice.tile,
            coarse=choice.coarse,
            overwrite=overwrite,
        )

    def one_tile(self, job: TileJob, index: int) -> None:
        """Segment one of the tiles, unless that has been done."""
        segment_tile(job, index, model_finder(self.model, job.mode, job.options))

    def stack(
        self,
        source: FileSource,
        output: Path,
        mode: str,
        axis: str,
        *,
        voxel_size_zyx: tuple[float, float, float],
        tile: int | None,
        overwrite: bool,
        progress: Progress | None,
    ) -> LargeSegmentation:
        """Write all objects of a stack of any size."""
        return segment_large_stack(
            source,
            output,
            self.model,
            axis=axis,
            voxel_size_zyx=voxel_size_zyx,
            mode=mode,
            tile=tile,
            overwrite=overwrite,
            progress=progress,
        )

    def planned_stack(
        self,
        source: FileSource,
        output: Path,
        mode: str,
        axis: str,
        *,
        voxel_size_zyx: tuple[float, float, float],
        tile: int | None,
        overwrite: bool,
    ) -> TileJob:
        """Return how the slices of a stack are cut into tiles."""
        return plan_stack(
            source,
            output,
            self.model,
            axis=axis,
            voxel_size_zyx=voxel_size_zyx,
            mode=mode,
            tile=tile,
            overwrite=overwrite,
        )

    def one_slice(self, job: TileJob) -> None:
        """Segment one of the slices, unless that has been done."""
        segment_slice(job, model_finder(self.model, job.mode, job.options))

    def prompted_large(
        self,
        source: FileSource,
        output: Path,
        prompts: PromptChoice,
        *,
        tile: int | None,
        overwrite: bool,
    ) -> LargeSegmentation:
        """Write the prompted objects of a picture of any size."""
        return segment_prompted(
            source,
            output,
            self.model,
            as_prompts(prompts),
            which=None if prompts.mask is None else prompts.mask - 1,
            tile=tile,
            overwrite=overwrite,
            cache=self.cache,
        )

    def prompted(self, rgb: npt.NDArray[np.uint8], prompts: PromptChoice) -> Found:
        """Return the prompted objects of a picture, each by one mask."""
        answer = predict_masks(self.model, self._encoded(rgb), as_prompts(prompts))
        return painted(answer.best() if prompts.mask is None else answer.choose([prompts.mask - 1]))

    def similar(
        self,
        rgb: npt.NDArray[np.uint8],
        exemplars: ExemplarChoice,
        mode: str,
        progress: Progress | None,
    ) -> Found:
        """Return all objects of a picture that are like the exemplars."""
        if mode == "auto":
            require_instance_decoder(self.model)  # before the slow part
        options = SimilarOptions()
        if exemplars.min_score is not None:
            options = replace(options, min_score=exemplars.min_score)
        source = rgb if exemplars.source_rgb is None else exemplars.source_rgb
        described = described_exemplars(self.model, self._encoded(source), exemplars)
        found = find_similar(
            self.model, self._encoded(rgb), described, mode=mode, options=options, progress=progress
        )
        return Found(found.labels, found.scores, found.points_xy)

    def described(
        self,
        rgb: npt.NDArray[np.uint8],
        text: TextChoice,
        prompts: PromptChoice,
        mode: str,
        progress: Progress | None,
    ) -> Found:
        """Return the objects of a picture that phrases name.

        A model that was trained with texts is asked with them; the masks of any other are ranked.
        """
        encoder = self._clip(text)
        if text_dim(self.model) is not None or prompts:
            require_text_slot(self.model, encoder)
            points = as_prompts(prompts) if prompts else None
            asked = text_prompts(
                self.model,
                encoder,
                text.phrases,
                points_xy=points.points_xy if points else None,
                point_labels=points.point_labels if points else None,
            )
            found = painted(predict_masks(self.model, self._encoded(rgb), asked).best())
            return replace(found, notes={"phrases": list(text.phrases)})
        matches = find_by_text(
            self.model,
            rgb,
            encoder,
            text.phrases,
            negatives=text.negatives or NEGATIVES,
            mode=mode,
            embedding=self._encoded(rgb),
            progress=progress,
        )
        objects = matches.segmentation
        phrases = [matches.phrases[index] for index in matches.phrase_index.tolist()]
        return Found(objects.labels, objects.scores, objects.points_xy, {"phrases": phrases})

    def _clip(self, text: TextChoice) -> Clip:
        """Return the CLIP, loaded once."""
        key = text.clip or DEFAULT_CLIP
        if key not in self.clips:
            self.clips[key] = load_clip(key, device=self.model.device, download=text.download)
        return self.clips[key]

    def _encoded(self, rgb: npt.NDArray[np.uint8]) -> ImageEmbedding:
        """Return the embedding of what the model sees, which was decided when the file was read."""
        return self.cache.get_or_compute(
            embedding_key(rgb, self.model.preprocessing, self.model_id),
            lambda: encode_rgb(self.model, rgb),
            device=self.model.device,
        )


def as_prompts(choice: PromptChoice) -> Prompts:
    """Return the prompts of the command line as those of the core."""
    points = [*choice.points_xy, *choice.negatives_xy]
    signs = [1] * len(choice.points_xy) + [0] * len(choice.negatives_xy)
    return Prompts(
        points_xy=np.array([points], np.float32) if points else None,
        point_labels=np.array([signs], np.int64) if points else None,
        boxes_xyxy=np.array(choice.boxes_xyxy, np.float32) if choice.boxes_xyxy else None,
    )


def described_exemplars(
    model: Model, embedding: ImageEmbedding, choice: ExemplarChoice
) -> Exemplars:
    """Return the exemplars of the command line as those of the core."""
    marked: list[Prompts | npt.NDArray[Any]] = list(choice.masks)
    if choice.points_xy:
        marked.append(Prompts.single_points(choice.points_xy))
    if choice.boxes_xyxy:
        marked.append(Prompts(boxes_xyxy=choice.boxes_xyxy))
    described = [describe_exemplars(model, embedding, one) for one in marked]
    return functools.reduce(operator.add, described)


def painted(answer: MaskPrediction) -> Found:
    """Return the one mask of each object as a label image, where the more confident one wins."""
    scores = answer.iou_predictions[:, 0]
    labels = np.zeros(answer.original_size_hw, np.int32)
    for index in np.argsort(scores, kind="stable"):
        window, mask = answer.window_mask(index)
        labels[window][mask] = index + 1
    return Found(labels, scores)
