"""The tasks of ``sam-plugins evaluate``: what each is called, its options, and how it is made.

A new task is a module in :mod:`sam_plugins.model.evaluation.tasks` and an entry in :data:`TASKS`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sam_plugins.errors import UnsuitableModelError

if TYPE_CHECKING:
    from sam_plugins.model.evaluation.tasks.task import Task
    from sam_plugins.model.inference.loading import Model
    from sam_plugins.model.io.labelled import LabelledSource


@dataclass(frozen=True)
class TaskCommand:
    """One task on the command line.

    Attributes
    ----------
    name, help : str
    add_options : callable
        Adds the options that no other task has.
    wrong_usage : callable
        Returns what is wrong with the options, None where nothing is.
    make : callable
        Returns the task for a loaded model, or raises what speaks against it before any work.
    """

    name: str
    help: str
    add_options: Callable[[argparse.ArgumentParser], None]
    wrong_usage: Callable[[argparse.Namespace], str | None]
    make: Callable[[Model, argparse.Namespace, Sequence[LabelledSource]], Task]

    def option_names(self) -> list[str]:
        """Return the names, among parsed arguments, of the options that no other task has."""
        parser = argparse.ArgumentParser(add_help=False)
        self.add_options(parser)
        return sorted(vars(parser.parse_args([])))


def _add_max_objects(parser: argparse.ArgumentParser) -> None:
    """Add what tasks that ask for objects one by one share."""
    parser.add_argument(
        "--max-objects", type=int, metavar="N", help="at most N objects of a picture, by lot (all)"
    )


def _wrong_max_objects(args: argparse.Namespace) -> str | None:
    """Refuse a number of objects that is none."""
    if args.max_objects is not None and args.max_objects < 1:
        return f"--max-objects must be 1 or more, got {args.max_objects}"
    return None


def _add_from_box(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``clicks``."""
    _add_max_objects(parser)
    parser.add_argument(
        "--from-box", action="store_true", help="clicks correct the answer to the object's box"
    )
    parser.add_argument(
        "--unsteady", action="store_true",
        help="the decoder's own answers, not held against the mask that they correct",
    )  # fmt: skip


def _add_edges(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``edges``."""
    parser.add_argument(
        "--points-per-side", type=int, default=16, metavar="N", help="of the grid (%(default)s)"
    )
    parser.add_argument(
        "--thresholds", type=int, default=99, metavar="N",
        help="at how many the edges are cut; fewer are faster (%(default)s)",
    )  # fmt: skip


def _add_proposals(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``proposals``."""
    parser.add_argument(
        "--points-per-side", type=int, default=32, metavar="N", help="of the grid (%(default)s)"
    )


def _wrong_grid(args: argparse.Namespace) -> str | None:
    """Refuse a grid without points, and no thresholds."""
    for option in ("points_per_side", "thresholds"):
        value = getattr(args, option, 1)
        if value < 1:
            return f"--{option.replace('_', '-')} must be 1 or more, got {value}"
    return None


def _add_instances(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``instances``."""
    parser.add_argument(
        "--detections", metavar="FILE",
        help="boxes of a detector, a JSON of COCO results (the true boxes, moved at random)",
    )  # fmt: skip
    parser.add_argument(
        "--noise", type=float, metavar="SHARE",
        help="standard deviation of a true box's sides, in widths and heights of it (0.1)",
    )  # fmt: skip


def _wrong_instances(args: argparse.Namespace) -> str | None:
    """Refuse noise for boxes of a detector, and negative noise."""
    if args.noise is not None and args.detections:
        return "--noise belongs to the true boxes, not to --detections"
    if args.noise is not None and not args.noise >= 0:
        return f"--noise must be 0 or more, got {args.noise:g}"
    return None


def _add_automatic(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``automatic``."""
    parser.add_argument(
        "--mode", choices=("auto", "grid"), default="auto",
        help="where points come from: the model's own instance decoder, or a grid (%(default)s)",
    )  # fmt: skip


def _add_text(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``text``."""
    parser.add_argument(
        "--clip", metavar="NAME", help="folder or name of the CLIP (openai/clip-vit-base-patch32)"
    )
    parser.add_argument(
        "--download-clip", action="store_true", help="fetch the CLIP where it is not here yet"
    )
    parser.add_argument(
        "--mode", choices=("auto", "grid"), default="auto",
        help="where the masks come from that words rank, for a model that was not trained with "
        "texts (%(default)s)",
    )  # fmt: skip


def _nothing_wrong(args: argparse.Namespace) -> None:
    """Accept any options."""
    del args


def _single_point(model: Model, args: argparse.Namespace, files: Sequence[LabelledSource]) -> Task:
    """Make the task ``single-point``."""
    from sam_plugins.model.evaluation.loaded import LoadedModel
    from sam_plugins.model.evaluation.tasks.single_point import SinglePoint

    del files
    return SinglePoint(LoadedModel(model), args.max_objects)


def _clicks(model: Model, args: argparse.Namespace, files: Sequence[LabelledSource]) -> Task:
    """Make the task ``clicks``."""
    from sam_plugins.model.evaluation.loaded import LoadedModel
    from sam_plugins.model.evaluation.tasks.clicks import Clicks

    del files
    asked = LoadedModel(model, steady=not args.unsteady)
    return Clicks(asked, args.from_box, args.max_objects, is_steady=asked.steady)


def _edges(model: Model, args: argparse.Namespace, files: Sequence[LabelledSource]) -> Task:
    """Make the task ``edges``."""
    import functools

    from sam_plugins.model.evaluation.edge_maps import model_edges
    from sam_plugins.model.evaluation.tasks.edges import Edges

    del files
    detector = functools.partial(model_edges, model, points_per_side=args.points_per_side)
    return Edges(detector, args.thresholds, args.points_per_side)


def _proposals(model: Model, args: argparse.Namespace, files: Sequence[LabelledSource]) -> Task:
    """Make the task ``proposals``."""
    from sam_plugins.model.evaluation.proposals import GridProposer
    from sam_plugins.model.evaluation.tasks.proposals import Proposals

    del files
    return Proposals(GridProposer(model, args.points_per_side), args.points_per_side)


def _instances(model: Model, args: argparse.Namespace, files: Sequence[LabelledSource]) -> Task:
    """Make the task ``instances``."""
    from sam_plugins.model.evaluation.detections import NOISE, read_detections
    from sam_plugins.model.evaluation.loaded import LoadedModel
    from sam_plugins.model.evaluation.tasks.instances import Instances
    from sam_plugins.model.io.coco import CocoFile

    detections = None
    if args.detections:
        first = files[0]
        names = first.category_names if isinstance(first, CocoFile) else None
        detections = read_detections(args.detections, names)
        detections.require_pictures(files)
    noise = NOISE if args.noise is None else args.noise
    return Instances(LoadedModel(model), detections, noise)


def _automatic(model: Model, args: argparse.Namespace, files: Sequence[LabelledSource]) -> Task:
    """Make the task ``automatic``."""
    from sam_plugins.model.evaluation.loaded import AutomaticSegmenter
    from sam_plugins.model.evaluation.tasks.automatic import Automatic

    del files
    _require_mode(model, args.mode)
    return Automatic(AutomaticSegmenter(model, args.mode), args.mode)


def _text(model: Model, args: argparse.Namespace, files: Sequence[LabelledSource]) -> Task:
    """Make the task ``text``: the model is asked with words, or its masks are ranked by them."""
    from sam_plugins.model.evaluation.tasks.text import Text
    from sam_plugins.model.evaluation.text_finders import PromptedFinder, RankedFinder
    from sam_plugins.model.inference.clip import DEFAULT_CLIP, load_clip
    from sam_plugins.model.inference.text import require_text_slot, text_dim

    del files
    name = args.clip or DEFAULT_CLIP
    is_trained = text_dim(model) is not None
    if not is_trained:
        _require_mode(model, args.mode)
    encoder = load_clip(name, device=model.device, download=args.download_clip)
    if is_trained:
        require_text_slot(model, encoder)
        return Text(PromptedFinder(model, encoder), encoder.encoder_id)
    return Text(RankedFinder(model, encoder, mode=args.mode), encoder.encoder_id)


def _require_mode(model: Model, mode: str) -> None:
    """Refuse to take points from an instance decoder that is not there."""
    if mode == "auto" and not model.has_instance_decoder:
        raise UnsuitableModelError(
            f"--mode auto needs a model with an instance decoder, which {model.model_id} has not; "
            "measure it with --mode grid"
        )


TASKS: tuple[TaskCommand, ...] = (
    TaskCommand(
        "single-point", "one centre point and one tight box for each object",
        _add_max_objects, _wrong_max_objects, _single_point,
    ),
    TaskCommand(
        "clicks", "up to 20 clicks for each object, and how many it takes",
        _add_from_box, _wrong_max_objects, _clicks,
    ),
    TaskCommand(
        "edges", "edges from the masks of a grid, beside Sobel's and Canny's",
        _add_edges, _wrong_grid, _edges,
    ),
    TaskCommand(
        "proposals", "how many objects are among 10, 100 and 1000 masks",
        _add_proposals, _wrong_grid, _proposals,
    ),
    TaskCommand(
        "instances", "masks for the boxes of a detector, or for moved true boxes",
        _add_instances, _wrong_instances, _instances,
    ),
    TaskCommand(
        "automatic", "whole pictures segmented, beside a threshold and a watershed",
        _add_automatic, _nothing_wrong, _automatic,
    ),
    TaskCommand(
        "text", "what the names of objects find (extra: text), beside other names",
        _add_text, _nothing_wrong, _text,
    ),
)  # fmt: skip
