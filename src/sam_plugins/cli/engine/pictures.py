"""``engine init``, ``import``, ``status``: what goes in, and what is there."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_plugins.cli.console import complain, say, say_json, table
from sam_plugins.cli.wording import with_options

if TYPE_CHECKING:
    from sam_plugins.model.engine.label_store import ImageRecord, LabelledObject, LabelStore
    from sam_plugins.model.engine.label_store.importing import ImportOptions, ImportReport
    from sam_plugins.model.engine.project.project import Project

Actions = argparse._SubParsersAction  # what argparse returns, without a public name

IMPORTS = ("pictures", "labels", "coco", "sa1b", "label-studio")


def add_init(actions: Actions[argparse.ArgumentParser], shared: argparse.ArgumentParser) -> None:
    """Add ``init``."""
    parser = actions.add_parser("init", parents=[shared], help="make a project in a folder")
    parser.add_argument(
        "--name", metavar="NAME", help="of its models in the model store (that of the folder)"
    )
    parser.add_argument(
        "--model", default="default", help="name or file of the model to begin with (%(default)s)"
    )
    parser.add_argument(
        "--held-out", type=float, default=0.25, metavar="SHARE",
        help="share of the pictures that is only measured on (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of that draw (%(default)s)")
    parser.set_defaults(run=lambda args: run_init(args, parser))


def add_import(actions: Actions[argparse.ArgumentParser], shared: argparse.ArgumentParser) -> None:
    """Add ``import``."""
    parser = actions.add_parser(
        "import",
        parents=[shared],
        help="add pictures, with labels that exist already or without",
        description="Pictures stay where they are; the project knows them by their content.",
    )
    parser.add_argument(
        "sources", nargs="+", metavar="SOURCE",
        help="pictures, folders or patterns; or the file or folder of another --format",
    )  # fmt: skip
    parser.add_argument(
        "--format", choices=IMPORTS, default="pictures",
        help="labels: label images of the same names in --labels (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--labels", metavar="DIR", help="label images, for --format labels")
    parser.add_argument("--images", metavar="DIR", help="pictures of a coco, sa1b or other file")
    parser.add_argument(
        "--group", metavar="PATTERN",
        help="pictures whose names agree in what this regular expression finds are never divided "
        "between learning and measuring; 'folder' groups by folder (crops by their names)",
    )  # fmt: skip
    parser.add_argument("--author", default="", help="of labels whose file names none")
    parser.add_argument(
        "--complete", action="store_true", help="every visible object is labelled already"
    )
    parser.set_defaults(run=lambda args: run_import(args, parser))


def add_status(actions: Actions[argparse.ArgumentParser], shared: argparse.ArgumentParser) -> None:
    """Add ``status``."""
    parser = actions.add_parser("status", parents=[shared], help="what is labelled, what is left")
    parser.add_argument("--image", metavar="IMAGE", help="the objects of one picture")
    parser.set_defaults(run=run_status)


def run_init(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Make a project; return the exit code."""
    from sam_plugins.errors import StoreError
    from sam_plugins.model.engine.project.project import Project, ProjectSettings
    from sam_plugins.model.weights.loading import load_checkpoint

    name = args.name or Path(args.project).absolute().name.lower()
    try:
        settings = ProjectSettings(name, args.model, args.held_out, args.seed)
    except ValueError as error:
        parser.error(with_options(str(error), {"held_out_share": "--held-out"}))
    except StoreError as error:
        if args.name:
            raise
        raise StoreError(f"{error}, which is the folder's; give one with --name") from error
    load_checkpoint(args.model)  # says now, and not in an hour, that there is none
    with Project.create(args.project, settings) as project:
        if args.json:
            say_json({"project": str(project.folder), **asdict(project.settings)})
        else:
            say(f"{project.folder}: project {settings.name}, beginning with {project.model_name()}")
        if project.models.versions(name):
            complain(
                f"the model store has versions of {name!r} already, which this project goes on "
                "with; where another project made them, give this one another --name"
            )
    return 0


def run_import(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Add pictures and labels; return the exit code."""
    if (args.format == "labels") != bool(args.labels):
        parser.error("--labels belongs to --format labels, which needs it")
    if args.images and args.format in {"pictures", "labels"}:
        parser.error("--images belongs to --format coco, sa1b or label-studio")
    if args.format != "pictures" and len(args.sources) > 1:
        parser.error(f"--format {args.format} takes one SOURCE, got {len(args.sources)}")
    from sam_plugins.model.engine.label_store.grouping import by_folder, by_pattern
    from sam_plugins.model.engine.label_store.importing import ImportOptions
    from sam_plugins.model.engine.project.enough import too_few_held_out
    from sam_plugins.model.engine.project.project import Project

    try:
        group_of = args.group and (by_folder if args.group == "folder" else by_pattern(args.group))
    except ValueError as error:
        parser.error(f"--group: {error}")
    options = ImportOptions(group_of=group_of, author=args.author, is_complete=args.complete)
    with Project.open(args.project) as project, project.job("import"):
        before = len(project.labels.images())
        report = _imported(project.labels, args, options)
        splits = project.divide()
        too_few = too_few_held_out(project)
        values = {
            "images": list(report.image_ids),
            "new_images": len(project.labels.images()) - before,
            "objects_added": report.added,
            "objects_known": report.known,
            "objects_changed": report.changed,
            "skipped": [{"where": one.where, "reason": one.reason} for one in report.skipped],
            "splits": splits,
        }
    if args.json:
        say_json(values)
    else:
        say(str(report))
        say(f"{splits['train']} pictures to learn from, {splits['held-out']} to measure on")
        if splits["train"] and not splits["held-out"]:
            say("They belong together, so that none is held out: import others as well.")
    if splits["held-out"] and too_few is not None:
        complain(too_few)
    for one in report.skipped:
        complain(f"skipped {one.where}: {one.reason}")
    return 1 if report.skipped else 0


def _imported(labels: LabelStore, args: argparse.Namespace, options: ImportOptions) -> ImportReport:
    """Read what is named."""
    from sam_plugins.cli.inputs import find_images
    from sam_plugins.errors import ImageError, UnreadableImageError
    from sam_plugins.model.engine.label_store import ReviewState
    from sam_plugins.model.engine.label_store.coco import import_coco
    from sam_plugins.model.engine.label_store.importing import ImportReport, Skipped
    from sam_plugins.model.engine.label_store.label_studio import import_label_studio
    from sam_plugins.model.engine.label_store.labelled_sets import import_folder_pair
    from sam_plugins.model.engine.label_store.sa1b import import_sa1b

    source = args.sources[0]
    if args.format == "labels":
        return import_folder_pair(labels, source, args.labels, options)
    if args.format == "coco":
        return import_coco(labels, source, args.images, options)
    if args.format == "sa1b":
        by_a_model = replace(options, review=ReviewState.PROPOSED)
        return import_sa1b(labels, source, args.images, by_a_model)
    if args.format == "label-studio":
        return import_label_studio(labels, source, args.images, options)
    ids: list[str] = []
    skipped: list[Skipped] = []
    for named in args.sources:
        for path in find_images(named):
            try:
                (record,) = labels.add_images([path], group_of=options.group_of)
            except ImageError as error:  # the others go on
                skipped.append(Skipped(str(path), str(error)))
                continue
            ids.append(record.image_id)
            if options.is_complete:
                labels.set_complete(record.image_id)
    if not ids:
        raise UnreadableImageError(
            f"no picture could be imported: {skipped[0].reason if skipped else 'none was found'}"
        )
    return ImportReport(tuple(dict.fromkeys(ids)), 0, 0, tuple(skipped))


def run_status(args: argparse.Namespace) -> int:
    """Say what is there; return the exit code."""
    from sam_plugins.model.engine.project.project import Project

    with Project.open(args.project) as project:
        if args.image:
            return _say_image(project, args)
        values = _status(project)
    if args.json:
        say_json(values)
        return 0
    pictures, objects, people = values["pictures"], values["objects"], values["work"]
    say(f"project {values['name']}, model {values['model']}")
    for split, one in pictures.items():
        say(f"{split}: {one['labelled']} of {one['all']} pictures labelled")
    say(
        f"objects: {people['objects']} labelled ({people['untouched']} of them proposed and "
        f"accepted untouched), {objects['proposed']} proposed, {objects['rejected']} rejected"
    )
    if people["clicks_per_object"] is not None:
        spent = people["seconds_per_object"]
        say(
            f"work: {people['clicks_per_object']:.2f} clicks"
            + ("" if spent is None else f" and {spent:.1f} s")
            + " per object"
        )
    if values["automatic"]:
        say(f"segmented automatically: {values['automatic']} pictures")
    if values["rounds"]:
        say(table([_round_row(one) for one in values["rounds"]]))
    if values["job"]:
        say(f"at work: {values['job']}")
    return 0


def _status(project: Project) -> dict[str, Any]:
    """Return what there is, for JSON."""
    from sam_plugins.model.engine.label_store import ReviewState, Split
    from sam_plugins.model.engine.project.learning import work_so_far

    records = project.labels.images()
    objects = project.labels.objects()
    touched = {split: {one.image_id for one in project.untouched(split)} for split in Split}
    job = project.state.last_job()
    return {
        "project": str(project.folder),
        "name": project.settings.name,
        "model": project.model_name(),
        "pictures": {
            str(split): {
                "all": sum(one.split == split for one in records),
                "labelled": sum(one.split == split for one in records) - len(touched[split]),
                "complete": sum(one.split == split and one.is_complete for one in records),
            }
            for split in Split
        },
        "objects": {
            str(state): sum(one.review == state for one in objects) for state in ReviewState
        },
        "work": work_so_far(project),
        "automatic": len(project.state.automatic()),
        "rounds": [asdict(one) for one in project.state.rounds()],
        "job": None if job is None or not project.is_busy() else str(job),
    }


def _round_row(one: dict[str, Any]) -> dict[str, str]:
    """Return a training as a row."""
    comparison, so_far = one["details"]["comparison"], one["details"]["work"]
    clicks = so_far["clicks_per_object"]
    return {
        "round": str(one["number"]),
        "pictures": str(one["pictures"]),
        "objects": str(one["objects"]),
        "clicks": "-" if clicks is None else f"{clicks:.2f}",
        "parent": f"{comparison['parent_value']:.3f}",
        "best": f"{comparison['value']:.3f}",
        "version": one["version"] or "none was better",
    }


def _say_image(project: Project, args: argparse.Namespace) -> int:
    """Say which objects a picture has."""
    record = project.find_image(args.image)
    objects = project.labels.objects(record.image_id)
    if args.json:
        say_json(described_image(record, objects))
        return 0
    is_complete = "complete" if record.is_complete else "not complete"
    say(f"{record.name} ({record.image_id}), {record.split}, {is_complete}")
    if objects:
        say(table([_object_row(one) for one in objects]))
    return 0


def _object_row(one: LabelledObject) -> dict[str, str]:
    """Return an object as a row."""
    return {
        "object": one.object_id,
        "class": one.class_name,
        "stage": str(one.stage),
        "review": str(one.review),
        "author": one.author,
        "seconds": "" if one.seconds is None else f"{one.seconds:.1f}",
        "prompts": str(len(one.prompts)),
        "score": "" if one.score is None else f"{one.score:.2f}",
    }


def described_image(record: ImageRecord, objects: list[LabelledObject]) -> dict[str, Any]:
    """Return a picture and its objects for JSON."""
    return {
        "image_id": record.image_id,
        "path": str(record.path),
        "split": None if record.split is None else str(record.split),
        "is_complete": record.is_complete,
        "objects": [
            {
                "object_id": one.object_id,
                "class_name": one.class_name,
                "stage": str(one.stage),
                "review": str(one.review),
                "author": one.author,
                "seconds": one.seconds,
                "score": one.score,
                "model_id": one.model_id,
                "prompts": [
                    {
                        "kind": str(event.kind),
                        "values": list(event.values),
                        "is_positive": event.is_positive,
                    }
                    for event in one.prompts
                ],
            }
            for one in objects
        ],
    }
