"""``engine export``: the labels go out, and replace nothing that is there unless told to."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sam_plugins.cli.console import counted, mention, say, say_json
from sam_plugins.cli.engine.pictures import Actions
from sam_plugins.errors import OutputError

if TYPE_CHECKING:
    from sam_plugins.model.engine.label_store import LabelStore
    from sam_plugins.model.engine.label_store.exporting import ExportOptions

EXPORTS = ("labels", "coco", "sa1b", "label-studio")
_PAIR = ("images", "labels", "ignore")


def add_export(actions: Actions[argparse.ArgumentParser], shared: argparse.ArgumentParser) -> None:
    """Add ``export``."""
    parser = actions.add_parser("export", parents=[shared], help="write the labels for others")
    parser.add_argument("-o", "--output", required=True, metavar="PATH", help="folder or file")
    parser.add_argument(
        "--format", choices=EXPORTS, default="labels",
        help="labels: pictures and label images; sa1b: a folder; coco, label-studio: a JSON file "
        "(%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--proposals", action="store_true", help="also what nobody has looked at yet"
    )
    parser.add_argument("--split", choices=("train", "held-out"), help="only these (all)")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace files that are there, whoever wrote them"
    )
    parser.set_defaults(run=run_export)


def run_export(args: argparse.Namespace) -> int:
    """Write the labels; return the exit code."""
    from sam_plugins.model.engine.label_store import ReviewState, Split
    from sam_plugins.model.engine.label_store.exporting import ExportOptions
    from sam_plugins.model.engine.label_store.types import TRUSTED
    from sam_plugins.model.engine.project.project import Project

    if not args.overwrite:
        _refuse_to_replace(Path(args.output), args.format)
    reviews = (*TRUSTED, ReviewState.PROPOSED) if args.proposals else TRUSTED
    options = ExportOptions(reviews=reviews, split=Split(args.split) if args.split else None)
    with Project.open(args.project) as project:
        count = _exporter(args.format, project.settings.name)(project.labels, args.output, options)
    if args.json:
        say_json({"output": args.output, "format": args.format, "objects": count})
    else:
        say(args.output)
        mention(counted(count, "object"))
    return 0


def _refuse_to_replace(output: Path, form: str) -> None:
    """Refuse to write where something is: labels that people made have just such names."""
    within = {"labels": [output / one for one in _PAIR], "sa1b": [output]}.get(form, [])
    taken = next((one for one in within if _holds_something(one)), None)
    if not within and output.is_file():
        taken = output
    if taken is not None:
        what = "exists" if taken.is_file() else "holds files"
        raise OutputError(
            f"{taken} {what} already; pass --overwrite to replace what has the same name, or "
            "another place with -o"
        )


def _holds_something(folder: Path) -> bool:
    """Return whether a folder is there and not empty; hidden files of the system do not count."""
    try:
        return any(not one.name.startswith(".") for one in folder.iterdir())
    except OSError:  # none, or none that we may look into: writing says why
        return False


def _exporter(form: str, title: str) -> Callable[[LabelStore, str, ExportOptions], int]:
    """Return what writes the labels of a project, which has a title, in a format."""
    from sam_plugins.model.engine.label_store.coco import export_coco
    from sam_plugins.model.engine.label_store.label_studio_export import export_label_studio
    from sam_plugins.model.engine.label_store.labelled_sets import export_folder_pair
    from sam_plugins.model.engine.label_store.sa1b import export_sa1b

    writers: dict[str, Callable[[LabelStore, str, ExportOptions], int]] = {
        "labels": export_folder_pair,
        "coco": lambda labels, path, options: export_coco(
            labels, path, options=options, title=title
        ),
        "sa1b": export_sa1b,
        "label-studio": export_label_studio,
    }
    return writers[form]
