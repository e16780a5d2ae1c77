"""Options of ``segment`` that search a picture: all objects like some, or all that words name."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_plugins.cli import arguments
from sam_plugins.errors import SamPluginsError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sam_plugins.cli.core import (
        Core,
        ExemplarChoice,
        Found,
        Progress,
        PromptChoice,
        TextChoice,
    )

    Rgb = npt.NDArray[np.uint8]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    like = parser.add_argument_group("all objects like some (exemplars), in pixels of the image")
    like.add_argument(
        "--like", action="append", type=arguments.point, default=[], metavar="X,Y",
        help="find all objects like the one at this point; several points are several exemplars",
    )  # fmt: skip
    like.add_argument(
        "--like-box", action="append", type=arguments.box, default=[], metavar="X0,Y0,X1,Y1",
        help="find all objects like the one in this box",
    )  # fmt: skip
    like.add_argument(
        "--like-mask", action="append", type=Path, default=[], metavar="FILE",
        help="find all objects like those of a mask or a label image of the same size",
    )  # fmt: skip
    like.add_argument(
        "--like-in", type=Path, metavar="FILE",
        help="the picture that the exemplars are in, where it is another one",
    )  # fmt: skip
    like.add_argument(
        "--min-likeness", type=_share, metavar="P",
        help="least chance of being an object like the exemplars, 0 to 1 (0.5)",
    )  # fmt: skip
    text = parser.add_argument_group("objects by words (extra: text)")
    text.add_argument(
        "--text", action="append", default=[], metavar="PHRASE",
        help='find what a phrase names, such as "a cat"; several phrases compete',
    )  # fmt: skip
    text.add_argument(
        "--not-text", action="append", default=[], metavar="PHRASE",
        help="what else is in the picture and not meant (background and the like)",
    )  # fmt: skip
    text.add_argument(
        "--clip", metavar="NAME", help="folder or name of the CLIP (openai/clip-vit-base-patch32)"
    )
    text.add_argument(
        "--download-clip", action="store_true", help="fetch the CLIP where it is not here yet"
    )


def refuse_contradictions(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Leave with a usage error where options exclude each other."""
    exemplars = bool(args.like or args.like_box or args.like_mask)
    prompts = bool(args.point or args.negative or args.box)
    if (args.like_in or args.min_likeness is not None) and not exemplars:
        parser.error("--like-in and --min-likeness belong to --like, --like-box or --like-mask")
    if exemplars and (prompts or args.text):
        parser.error("exemplars (--like ...) go without --point, --negative, --box and --text")
    if (args.not_text or args.clip or args.download_clip) and not args.text:
        parser.error("--not-text, --clip and --download-clip belong to --text")
    if any(not phrase.strip() for phrase in (*args.text, *args.not_text)):
        parser.error("--text and --not-text need phrases that say what is meant, got an empty one")
    if args.text and (args.box or args.mask is not None):
        parser.error("--text goes with --point and --negative, not with --box or --mask")
    if args.text and prompts and len(args.text) > 1:
        parser.error("points refine one object: give them with one --text")


def refuse_many(args: argparse.Namespace, count: int, parser: argparse.ArgumentParser) -> None:
    """Leave with a usage error where it is open which of several pictures the exemplars are in."""
    if count > 1 and (args.like or args.like_box or args.like_mask) and not args.like_in:
        parser.error(
            f"name the picture that the exemplars are in with --like-in, for there are {count}"
        )


@dataclass(frozen=True)
class Search:
    """What is searched for.

    Parameters
    ----------
    exemplars : ExemplarChoice
    text : TextChoice
    prompts : PromptChoice
        Points that help a phrase.
    read : callable
        From a file to what the model sees of it.
    """

    exemplars: ExemplarChoice
    text: TextChoice
    prompts: PromptChoice
    read: Callable[[Path], Rgb]
    like_in: Path | None = None
    _kept: dict[str, ExemplarChoice] = field(default_factory=dict, repr=False)

    def __bool__(self) -> bool:
        """Return whether there is anything to search for."""
        return bool(self.exemplars or self.text)

    @property
    def mode(self) -> str:
        """What the table calls it."""
        return "exemplars" if self.exemplars else "text"

    def elsewhere(self, absolute: Callable[[Any], Any]) -> Search:
        """Return the search with files named so that another process finds them."""
        masks = [absolute(path) for path in self.exemplars.mask_files]
        return replace(
            self,
            exemplars=replace(self.exemplars, mask_files=masks),
            text=replace(self.text, clip=_absolute_folder(self.text.clip)),
            like_in=absolute(self.like_in),
        )

    def find(self, core: Core, rgb: Rgb, mode: str, progress: Progress | None) -> Found:
        """Search a picture."""
        if self.text:
            return core.described(rgb, self.text, self.prompts, mode, progress)
        try:
            return core.similar(rgb, self._marked(), mode, progress)
        except ValueError as error:
            if isinstance(error, SamPluginsError):
                raise
            # the core speaks of prompts, which are other options here
            words = str(error).replace("points_xy", "--like").replace("boxes_xyxy", "--like-box")
            raise ValueError(words) from error

    def _marked(self) -> ExemplarChoice:
        """Return the exemplars with their masks and their picture, read once."""
        if "read" not in self._kept:
            from sam_plugins.model.io.label_files import read_labels

            masks = [read_labels(path) for path in self.exemplars.mask_files]
            source = self.read(self.like_in) if self.like_in else None
            self._kept["read"] = replace(self.exemplars, masks=masks, source_rgb=source)
        return self._kept["read"]

    def described(self) -> Mapping[str, Any]:
        """Return what is searched for, for the table."""
        if self.text:
            said: dict[str, Any] = {"text": list(self.text.phrases)}
            said |= {"not_text": list(self.text.negatives)} if self.text.negatives else {}
            return said
        exemplars = {
            "points_xy": list(self.exemplars.points_xy),
            "boxes_xyxy": list(self.exemplars.boxes_xyxy),
            "masks": [path.name for path in self.exemplars.mask_files],
        }
        marked: dict[str, Any] = {key: value for key, value in exemplars.items() if value}
        if self.like_in:
            marked["image"] = self.like_in.name
        return {"exemplars": marked}


def search_of(
    args: argparse.Namespace, prompts: PromptChoice, read: Callable[[Path], Rgb]
) -> Search:
    """Return what the options ask for."""
    from sam_plugins.cli.core import ExemplarChoice, TextChoice

    exemplars = ExemplarChoice(args.like, args.like_box, args.like_mask, args.min_likeness)
    text = TextChoice(args.text, args.not_text, args.clip, args.download_clip)
    return Search(exemplars, text, prompts, read, args.like_in)


def _absolute_folder(name: str | None) -> str | None:
    """Return the name of a folder so that another process finds it; any other name as it is."""
    return str(Path(name).absolute()) if name and Path(name).is_dir() else name


def _share(text: str) -> float:
    """Return a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text!r}")
    return value
