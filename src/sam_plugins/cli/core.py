"""The core as the commands use it; torch is imported when this is first called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sam_plugins.cli.tiles import TileChoice
    from sam_plugins.model.inference.loading import Backend
    from sam_plugins.model.large.job import TileJob
    from sam_plugins.model.large.results import LargeSegmentation
    from sam_plugins.model.large.sources import FileSource

Progress = Callable[[int, int], None]
Precision = Literal["float32", "bfloat16", "auto"]


@dataclass(frozen=True)
class Running:
    """Where, how exactly and by what a model is run.

    Parameters
    ----------
    device : str, optional
        By default the first CUDA GPU, or the CPU.
    precision : {"float32", "bfloat16", "auto"}
        Floating type of the weights.
    backend : {"torch", "auto", "openvino", "onnxruntime", "compile"}
        What runs the image encoder.
    """

    device: str | None = None
    precision: Precision = "float32"
    backend: Backend = "torch"


@dataclass(frozen=True)
class PromptChoice:
    """The prompts of the command line, in pixels of the image.

    Parameters
    ----------
    points_xy, negatives_xy : sequence of (float, float)
        Points inside and outside of one object.
    boxes_xyxy : sequence of (float, float, float, float)
        One object each; with points at most one.
    mask : int, optional
        Which of the masks of a single point, from 1; by default the most confident one.
    """

    points_xy: Sequence[tuple[float, float]] = ()
    negatives_xy: Sequence[tuple[float, float]] = ()
    boxes_xyxy: Sequence[tuple[float, float, float, float]] = ()
    mask: int | None = None

    def __bool__(self) -> bool:
        """Return whether there is any prompt."""
        return bool(self.points_xy or self.negatives_xy or self.boxes_xyxy)


@dataclass(frozen=True)
class ExemplarChoice:
    """Objects of which all similar ones are wanted.

    Parameters
    ----------
    points_xy, boxes_xyxy : sequence
        One exemplar each, in pixels of the picture that they are in.
    mask_files : sequence of Path
        Masks or label images.
    min_score : float, optional
        Least chance of being such an object.
    masks : sequence of ndarray of shape (H, W)
        What the files hold, once they are read.
    source_rgb : ndarray of shape (H, W, 3), uint8, optional
        The picture that the exemplars are in, where it is another one.
    """

    points_xy: Sequence[tuple[float, float]] = ()
    boxes_xyxy: Sequence[tuple[float, float, float, float]] = ()
    mask_files: Sequence[Path] = ()
    min_score: float | None = None
    masks: Sequence[npt.NDArray[Any]] = ()
    source_rgb: npt.NDArray[np.uint8] | None = None

    def __bool__(self) -> bool:
        """Return whether there is any exemplar."""
        return bool(self.points_xy or self.boxes_xyxy or self.mask_files)


@dataclass(frozen=True)
class TextChoice:
    """Phrases whose objects are wanted.

    Parameters
    ----------
    phrases, negatives : sequence of str
        What is meant, and what is not.
    clip : str, optional
        Folder or name of the CLIP.
    download : bool
        Whether it may be fetched.
    """

    phrases: Sequence[str] = ()
    negatives: Sequence[str] = ()
    clip: str | None = None
    download: bool = False

    def __bool__(self) -> bool:
        """Return whether there is any phrase."""
        return bool(self.phrases)


@dataclass(frozen=True)
class Found:
    """The objects of one image: label ``i + 1`` has score ``i``; ``notes`` are for the table."""

    labels: npt.NDArray[np.integer[Any]]
    scores: npt.NDArray[np.floating[Any]]
    points_xy: npt.NDArray[np.floating[Any]] | None = field(default=None)
    notes: Mapping[str, Any] = field(default_factory=dict)


class Core(Protocol):
    """A loaded model that turns pictures into objects."""

    @property
    def model_id(self) -> str:
        """Name and digest of the weights."""

    def automatic(
        self,
        rgb: npt.NDArray[np.uint8],
        mode: str,
        progress: Progress | None,
        *,
        looks_closer: bool = True,
    ) -> Found:
        """Return all objects of a picture, which may be looked at in windows."""

    def needs_tiles(self, size_hw: tuple[int, int]) -> bool:
        """Return whether a picture is so large that segmenting it by tiles pays."""

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

    def one_tile(self, job: TileJob, index: int) -> None:
        """Segment one of the tiles, unless that has been done."""

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

    def one_slice(self, job: TileJob) -> None:
        """Segment one of the slices, unless that has been done."""

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

    def prompted(self, rgb: npt.NDArray[np.uint8], prompts: PromptChoice) -> Found:
        """Return the prompted objects of a picture."""

    def similar(
        self,
        rgb: npt.NDArray[np.uint8],
        exemplars: ExemplarChoice,
        mode: str,
        progress: Progress | None,
    ) -> Found:
        """Return all objects of a picture that are like the exemplars."""

    def described(
        self,
        rgb: npt.NDArray[np.uint8],
        text: TextChoice,
        prompts: PromptChoice,
        mode: str,
        progress: Progress | None,
    ) -> Found:
        """Return the objects of a picture that phrases name."""
