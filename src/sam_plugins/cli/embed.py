"""``sam-plugins embed``: pictures, slices and projects encoded before anybody asks."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_plugins.cli import arguments, scheduler
from sam_plugins.cli.console import complain, in_bytes, say, say_json
from sam_plugins.cli.failures import Failures
from sam_plugins.cli.segment import add_view_options
from sam_plugins.cli.view import View, read_rgb, smaller
from sam_plugins.errors import ClusterError, OutputError, SamPluginsError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sam_plugins.model.cluster.outcome import Kept, Runner
    from sam_plugins.model.inference.cache import EmbeddingCache
    from sam_plugins.model.inference.loading import Model
    from sam_plugins.model.inference.volume import Volume

_AXES = ("z", "y", "x")
_FEW = 3  # names in a line


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "embed",
        parents=[common],
        help="encode pictures before anybody asks",
        description="Encode pictures, the slices of stacks, or all pictures of a Label Studio "
        "project into the cache that every command and plugin looks into, so that later work "
        "begins with a decoder's milliseconds. What is cached already is passed over: an "
        "interrupted command is run again. Tiles of large pictures are not prepared.",
    )
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help="files, folders or patterns, as for segment"
    )
    arguments.add_model_options(parser)
    stack = parser.add_argument_group("stacks")
    stack.add_argument(
        "--stack", action="store_true", help="every slice of each file, with one contrast for all"
    )
    stack.add_argument(
        "--along", choices=_AXES, action="append", metavar="AXIS",
        help="slices along z, y or x (z); repeat for more",
    )  # fmt: skip
    stack.add_argument(
        "--voxel-size",
        type=arguments.voxel_size,
        metavar="Z,Y,X",
        help="lengths of a voxel (1,1,1)",
    )
    project = parser.add_argument_group("a Label Studio project (extra: labelstudio)")
    project.add_argument(
        "--label-studio", type=int, metavar="PROJECT",
        help="number of the project, into the cache of the backend whose SAM_PLUGINS_LS_... "
        "settings are in the environment",
    )  # fmt: skip
    project.add_argument("--url", help="of Label Studio (SAM_PLUGINS_LS_URL)")
    add_view_options(parser)
    scheduler.add_option(parser, "pictures or slices")
    parser.add_argument(
        "--exact", action="store_true",
        help="keep float16, five times as large; otherwise masks agree with those of fresh "
        "embeddings to a mean IoU of 0.998",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print a summary as JSON")
    parser.set_defaults(run=lambda args: run(args, parser))


@dataclass
class Summary:
    """What was done, for people and for ``--json``."""

    model_id: str = ""
    encoded: int = 0
    cached: int = 0
    bytes: int = 0
    large: list[str] = field(default_factory=list)
    failures: Failures = field(default_factory=Failures)

    def document(self) -> dict[str, Any]:
        """Return the values for ``--json``, finished or not."""
        return {
            "model": self.model_id,
            "encoded": self.encoded,
            "cached_before": self.cached,
            "bytes": self.bytes,
            "large": self.large,
            "failed": self.failures.entries,
        }


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Encode; return the exit code."""
    _refuse_contradictions(args, parser)
    if args.label_studio is not None:
        from sam_plugins.cli.labelstudio import prepare

        return prepare(args.url, args.label_studio, is_json=args.json)
    view = View(args.channels, args.limits, args.plane, args.level, args.axes)
    summary = Summary(failures=Failures(args.debug))
    args.so_far = summary.document
    order = _order(args, view)
    parts = _parts(args, order, summary)
    if parts:
        folder = Path(order.folder)
        files = [part.image for part in parts]
        with scheduler.opened(args, len(parts), files=files, folder=_made(folder)) as runner:
            embed_parts(parts, order, summary, runner)
    if summary.large:
        complain(
            f"warning: segment looks at large pictures in parts, of which nothing is prepared; "
            f"{_few(summary.large)}: encoded as a whole, for segment --no-tiles, --like and --text"
        )
    if args.json:
        say_json(summary.document())
    else:
        say(
            f"{summary.encoded} encoded ({in_bytes(summary.bytes)}), {summary.cached} were cached "
            "before"
        )
    summary.failures.summarise(summary.encoded + summary.cached, "encoded")
    return 1 if summary.failures else 0


def _few(names: Sequence[str]) -> str:
    """Return names, the first ones of many."""
    more = len(names) - _FEW
    return ", ".join(names[:_FEW]) + (f" and {more} more" if more > 0 else "")


def _refuse_contradictions(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Leave with a usage error where options exclude each other."""
    if bool(args.images) == (args.label_studio is not None):
        parser.error("name pictures, or a project with --label-studio")
    if args.url and args.label_studio is None:
        parser.error("--url belongs to --label-studio")
    if args.label_studio is not None and args.scheduler not in {None, "none"}:
        parser.error("--label-studio encodes in this process: leave out --scheduler")
    if (args.along or args.voxel_size) and not args.stack:
        parser.error("--along and --voxel-size belong to --stack")
    if args.stack and args.plane is not None:
        parser.error("--stack encodes every plane: leave out --plane")


@dataclass(frozen=True)
class Order:
    """What is wanted of every picture; goes to workers as it is."""

    model: str
    device: str | None
    view: View
    folder: str
    compact: bool
    voxel_size: tuple[float, float, float]


@dataclass(frozen=True)
class Part:
    """A picture, or a slice of a stack.

    Parameters
    ----------
    image : Path
    axis, index : int, optional
        Which slice; None for a plain picture.
    """

    image: Path
    axis: int | None = None
    index: int = 0

    def __str__(self) -> str:
        """Return what people call it."""
        return (
            str(self.image) if self.axis is None else f"{self.image}:{_AXES[self.axis]}{self.index}"
        )


@dataclass(frozen=True)
class Kind:
    """What is said of a part: the rest is in the cache."""

    model_id: str
    is_new: bool
    is_large: bool
    bytes: int
    seconds: float


def _order(args: argparse.Namespace, view: View) -> Order:
    """Return what the options ask for, with names that mean the same everywhere."""
    from sam_plugins.model.weights.paths import embeddings_directory

    folder = str(embeddings_directory().absolute())
    voxel_size = args.voxel_size or (1.0, 1.0, 1.0)
    model = scheduler.absolute(args.model)
    return Order(model, args.device, view, folder, not args.exact, voxel_size)


def _parts(args: argparse.Namespace, order: Order, summary: Summary) -> list[Part]:
    """Return what can be tried; report what cannot."""
    from sam_plugins.cli.inputs import find_images

    parts: list[Part] = []
    for name in args.images:
        try:
            images = find_images(name)
        except SamPluginsError as error:
            summary.failures.add(name, error)
            continue
        for image in images:
            if not args.stack:
                parts.append(Part(image))
                continue
            with summary.failures.caught(image):
                lengths = _shape(image, order)
                parts += [
                    Part(image, axis, index)
                    for axis in map(_AXES.index, dict.fromkeys(args.along or ["z"]))
                    for index in range(lengths[axis])
                ]
    return parts


def _made(folder: Path) -> Path:
    """Make the folder of the cache, where workers have to find it."""
    from sam_plugins.model.io.atomic import make_folder
    from sam_plugins.model.weights.paths import HOME_VARIABLE

    try:
        return make_folder(folder)
    except OutputError as error:
        reason = getattr(error.__cause__, "strerror", None) or "a file of that name exists"
        raise OutputError(
            f"cannot keep embeddings in {folder} ({reason}); choose another folder with the "
            f"environment variable {HOME_VARIABLE}"
        ) from error


def embed_parts(parts: Sequence[Part], order: Order, summary: Summary, runner: Runner) -> None:
    """Encode what is not cached; a failure is reported and the rest go on.

    Parameters
    ----------
    parts : sequence of Part
        At least one.
    order : Order
    summary : Summary
    runner : Runner
        Where.
    """
    from sam_plugins.model.inference.cache import DEFAULT_DISK_BYTES

    named = parts
    if runner.is_distributed:
        named = [replace(part, image=scheduler.absolute(part.image)) for part in parts]
    summary.model_id = runner.call(partial(_model_id, order))
    warned = False
    for outcome in scheduler.performed(runner, partial(_embed_one, order), named, "picture"):
        part = parts[outcome.index]
        with summary.failures.caught(part, partial(smaller, part.image, order.view)):
            done = outcome.result()
            if done.model_id != summary.model_id:
                raise ClusterError(
                    f"a worker has other weights ({done.model_id}, the others {summary.model_id}): "
                    "give all the same file"
                )
            summary.encoded += done.is_new
            summary.cached += not done.is_new
            summary.bytes += done.bytes * done.is_new
            if done.is_large and part.axis is None:  # slices are asked for whole
                summary.large.append(str(part))
            expected = done.bytes * len(parts)
            if expected > DEFAULT_DISK_BYTES and not warned:
                warned = True
                complain(
                    f"warning: {len(parts)} embeddings take about {in_bytes(expected)}, and the "
                    f"cache keeps {in_bytes(DEFAULT_DISK_BYTES)}: those used longest ago go again"
                )


def _loaded(order: Order, kept: Kept) -> tuple[Model, EmbeddingCache]:
    """Return model and cache, made once in each process."""

    def load() -> tuple[Model, EmbeddingCache]:
        from sam_plugins.model.inference.cache import EmbeddingCache
        from sam_plugins.model.inference.loading import load_model

        # Nobody asks for them here: only the disk counts.
        cache = EmbeddingCache(order.folder, max_memory_bytes=0, compact=order.compact)
        return load_model(order.model, device=order.device), cache

    return kept.get(("embed", order.model, order.device, order.compact, order.folder), load)


def _model_id(order: Order, kept: Kept) -> str:
    """Load the model; return its name and digest."""
    return _loaded(order, kept)[0].model_id


def _embed_one(order: Order, kept: Kept, part: Part) -> Kind:
    """Encode a picture or a slice, unless the cache holds it."""
    from sam_plugins.model.inference.cache import embedding_key
    from sam_plugins.model.inference.predict import encode_rgb
    from sam_plugins.model.inference.reduction import needs_tiles

    start = time.perf_counter()
    model, cache = _loaded(order, kept)
    rgb = _rgb(order, kept, part)
    key = embedding_key(rgb, model.preprocessing, model.model_id)
    is_new = not cache.holds(key)
    if is_new:
        cache.get_or_compute(key, lambda: encode_rgb(model, rgb))
    is_large = needs_tiles((rgb.shape[0], rgb.shape[1]), model.preprocessing)
    seconds = time.perf_counter() - start
    return Kind(model.model_id, is_new, is_large, cache.bytes_of(key), seconds)


def _rgb(order: Order, kept: Kept, part: Part) -> npt.NDArray[np.uint8]:
    """Return what the model sees of a part."""
    if part.axis is None:
        return read_rgb(part.image, order.view)
    key = ("stack", part.image, repr(order.view), order.voxel_size)
    stack = kept.get(key, lambda: _open_stack(part.image, order))
    return stack.volume.rgb(part.axis, part.index)


@dataclass(frozen=True, eq=False)
class _OpenStack:
    """A stack that stays open for the slices that follow."""

    volume: Volume
    close: Callable[[], None]


def _open_stack(image: Path, order: Order) -> _OpenStack:
    """Open a stack."""
    from sam_plugins.model.inference.rgb import channel_indices
    from sam_plugins.model.inference.volume import Volume
    from sam_plugins.model.io.images import open_image
    from sam_plugins.model.io.stacks import StackArray

    view = order.view
    opened = open_image(image, level=view.level, axes=view.axes)
    try:
        array = StackArray(opened)
    except SamPluginsError:
        opened.close()
        raise
    limits = view.limits
    if limits is not None and len(limits) == 1:
        limits = [limits[0]] * (1 if array.channel_axis is None else array.shape[3])
    channels = view.channels
    shown = None if channels is None else channel_indices(channels, opened.channel_names)
    volume = Volume(array, order.voxel_size, array.channel_axis, shown, limits)
    return _OpenStack(volume, opened.close)


def _shape(image: Path, order: Order) -> tuple[int, int, int]:
    """Return the lengths of a stack."""
    with contextlib.closing(_open_stack(image, order)) as stack:
        return stack.volume.shape_zyx
