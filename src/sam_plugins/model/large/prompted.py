"""Prompted objects of a picture of any size, written as labels of any size."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sam_plugins.model.inference.cache import EmbeddingCache
from sam_plugins.model.inference.full_size import CutLogits
from sam_plugins.model.inference.loading import Model
from sam_plugins.model.inference.segment_options import AUTO
from sam_plugins.model.inference.types import Prompts
from sam_plugins.model.io.windows import Window
from sam_plugins.model.large.embedding import TiledEmbedding
from sam_plugins.model.large.job import TileJob
from sam_plugins.model.large.labels_zarr import LabelPyramid
from sam_plugins.model.large.masks import LargeMask, LargePrediction
from sam_plugins.model.large.picture import LazyPicture
from sam_plugins.model.large.plan import TilePlan
from sam_plugins.model.large.prompts import predict_large
from sam_plugins.model.large.results import LargeSegmentation, finished, publish, work_folder
from sam_plugins.model.large.sources import Source
from sam_plugins.model.large.tables import ObjectTable, figures_of

MODE = "prompts"


def segment_prompted(
    source: Source,
    output: str | os.PathLike[str],
    model: Model,
    prompts: Prompts,
    *,
    which: int | None = None,
    tile: int | None = None,
    overwrite: bool = False,
    cache: EmbeddingCache | None = None,
) -> LargeSegmentation:
    """Write the objects that prompts ask for in a picture of any size, in bounded memory.

    Parameters
    ----------
    source : FileSource or ArraySource
        The picture.
    output : path
        Folder of the labels, by convention ``NAME_labels.zarr``. Object ``i + 1`` is that of the
        prompts at place ``i``; where two overlap, the more confident one wins. The table is written
        beside it, with the first positive point, or the centre of the box, of each object.
    model : Model
    prompts : Prompts
        For N objects, in pixels of the picture, each answered as
        :func:`~sam_plugins.predict_large` does.
    which : int, optional
        Which of the masks of an ambiguous prompt, from 0; the most confident one by default.
    tile : int, optional
        Length of the finest windows in pixels; by default the model's longest input.
    overwrite : bool
        Whether earlier labels at ``output`` are replaced, when the new ones are complete.
    cache : EmbeddingCache, optional
        Where embeddings are kept; by default the folder that all front ends share.

    Returns
    -------
    LargeSegmentation
        At once, where the same was asked before.

    Raises
    ------
    ImageError
        If the picture cannot be read, or is none.
    OutputError
        If ``output`` exists and is of other settings, or cannot be written.
    ValueError
        As for :func:`~sam_plugins.predict_large`.
    MemoryLimitError
        If memory runs out.
    """
    path = Path(output)
    with source.open() as opened:
        picture = opened.with_contrast()
        side = tile or model.preprocessing.max_long_side
        job = _job(source, picture, path, model, prompts, which, side)
        prompts.check_inside(picture.size_hw)
        done = finished(job, path, overwrite=overwrite)
        if done is not None:
            return done
        answer = predict_large(TiledEmbedding(model, picture, tile=side, cache=cache), prompts)
    job.begin()
    try:
        labels, count = _write(job, path, answer, prompts, which)
    except BaseException:
        shutil.rmtree(job.folder, ignore_errors=True)  # The embeddings are kept elsewhere.
        raise
    publish(job, labels, path, count, overwrite=overwrite)
    result = finished(job, path)
    assert result is not None
    return result


def _job(
    source: Source,
    picture: LazyPicture,
    output: Path,
    model: Model,
    prompts: Prompts,
    which: int | None,
    side: int,
) -> TileJob:
    """Return all that decides the result."""
    asked = {name: None if value is None else value.tolist() for name, value in _arrays(prompts)}
    return TileJob(
        source=source,
        plan=TilePlan(picture.size_hw, side, 0),
        contrast=picture.contrast,
        model_id=model.model_id,
        mode=MODE,
        options=AUTO,
        folder=work_folder(output),
        extra={"prompts": asked, "which": which},
    )


def _arrays(prompts: Prompts) -> list[tuple[str, npt.NDArray[np.generic] | None]]:
    """Return what is asked, by name."""
    return [
        ("points_xy", prompts.points_xy),
        ("point_labels", prompts.point_labels),
        ("boxes_xyxy", prompts.boxes_xyxy),
    ]


@dataclass(frozen=True, eq=False)
class _Painter:
    """One mask of the picture, drawn part by part.

    Parameters
    ----------
    label : int
    window : (slice, slice)
        Rows and columns of the picture that the mask can reach.
    one : LargeMask
    cut : CutLogits
        What draws it.
    """

    label: int
    window: Window
    one: LargeMask
    cut: CutLogits

    @classmethod
    def of(cls, one: LargeMask, which: int, label: int) -> _Painter:
        """Prepare a mask."""
        cut = one.sizes.cut(one.logits[which])
        rows, columns = (
            slice(part.start + corner, part.stop + corner)
            for part, corner in zip(cut.window, (one.view.top, one.view.left), strict=True)
        )
        return cls(label, (rows, columns), one, cut)

    def paint(self, core: Window, onto: npt.NDArray[np.uint32]) -> None:
        """Draw what lies in a core, an array of its shape."""
        both = [
            slice(max(a.start, b.start), min(a.stop, b.stop))
            for a, b in zip(self.window, core, strict=True)
        ]
        if any(part.start >= part.stop for part in both):
            return
        corner = (self.one.view.top, self.one.view.left)
        rows, columns = (_moved(part, -by) for part, by in zip(both, corner, strict=True))
        part = CutLogits((rows, columns), self.cut.cells, self.cut.logits)
        mask = self.one.sizes.draw_cut(part).mask
        where = tuple(_moved(one, -of.start) for one, of in zip(both, core, strict=True))
        onto[where][mask] = self.label


def _moved(part: slice, by: int) -> slice:
    """Return a slice elsewhere."""
    return slice(part.start + by, part.stop + by)


def _write(
    job: TileJob, output: Path, answer: LargePrediction, prompts: Prompts, which: int | None
) -> tuple[Path, int]:
    """Write labels and table into the folder of the job; return where, and how many objects."""
    chosen = [one.best if which is None else which for one in answer.objects]
    scores = np.array(
        [one.iou_predictions[place] for one, place in zip(answer.objects, chosen, strict=True)],
        np.float32,
    )
    painters = [
        _Painter.of(answer.objects[index], chosen[index], index + 1)
        for index in np.argsort(scores, kind="stable").tolist()  # The most confident one last.
    ]
    labels = LabelPyramid(job.folder / "labels.zarr", job.plan.size_hw, job.plan.core)
    shutil.rmtree(labels.path, ignore_errors=True)  # Of a run that was killed.
    labels.create(name=output.name.removesuffix(".zarr"))
    table = ObjectTable(len(answer))
    for tile in job.plan:
        rows, columns = tile.core
        painted = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint32)
        for painter in painters:
            painter.paint(tile.core, painted)
        if painted.any():
            labels.write(tile.core, painted)
            table.add(figures_of(painted, (rows.start, columns.start)))
    for level in range(1, labels.levels):
        for _ in labels.coarsen(level):
            pass
    count = table.write(job.folder / "objects.csv", scores, _places(prompts))
    return labels.path, count


def _places(prompts: Prompts) -> npt.NDArray[np.float32]:
    """Return the first positive point of each object, or the centre of its box, as (N, 2)."""
    places = np.zeros((len(prompts), 2), np.float32)
    if prompts.boxes_xyxy is not None:
        places = prompts.boxes_xyxy.reshape(-1, 2, 2).mean(axis=1, dtype=np.float32)
    if prompts.points_xy is not None and prompts.point_labels is not None:
        for index, labels in enumerate(prompts.point_labels):
            positive = np.flatnonzero(labels == 1)
            if positive.size:
                places[index] = prompts.points_xy[index, positive[0]]
    return places
