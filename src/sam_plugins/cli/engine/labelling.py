"""``engine label``: what people say of the objects of a picture."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_plugins.cli import arguments
from sam_plugins.cli.console import say, say_json
from sam_plugins.cli.engine.pictures import Actions, described_image
from sam_plugins.errors import ProjectError, UnreadableImageError

if TYPE_CHECKING:
    from sam_plugins.model.engine.label_store import ImageRecord
    from sam_plugins.model.engine.project.project import Project


def add_label(actions: Actions[argparse.ArgumentParser], shared: argparse.ArgumentParser) -> None:
    """Add ``label``."""
    parser = actions.add_parser(
        "label",
        parents=[shared],
        help="bring in what a person labelled, without a window",
        description="A label image is compared with what the model proposed: objects that are "
        "there unchanged are accepted, changed ones corrected, missing ones rejected, the others "
        "are new. Prompts are answered by the model in use.",
    )
    parser.add_argument("image", metavar="IMAGE", help="by its path, file name or id")
    how = parser.add_argument_group("what was labelled, at least one of these")
    how.add_argument("--labels", metavar="FILE", help="label image made elsewhere (TIFF, PNG)")
    how.add_argument(
        "--plane", type=arguments.plane, metavar="N",
        help="plane of --labels where that is a stack: 5, or Z=5,T=0",
    )  # fmt: skip
    how.add_argument("--prompts", metavar="FILE", help="prompts as JSON, - for standard input")
    how.add_argument("--accept-all", action="store_true", help="every proposal as it is")
    state = parser.add_mutually_exclusive_group()
    state.add_argument(
        "--complete", dest="is_complete", action="store_true", default=None,
        help="every visible object is labelled now (as with --labels alone)",
    )  # fmt: skip
    state.add_argument(
        "--incomplete", dest="is_complete", action="store_false", default=None,
        help="others are not labelled: what has no label is not background",
    )  # fmt: skip
    parser.add_argument(
        "--keep", action="store_true", help="objects that are missing in --labels stay"
    )
    parser.add_argument("--author", help="who labelled (the name that the system knows)")
    parser.add_argument("--seconds", type=float, help="that it took, for the whole picture")
    parser.add_argument("--class", dest="class_name", default="object", help="(%(default)s)")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps")
    parser.set_defaults(run=lambda args: run_label(args, parser))


def run_label(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Bring in labels; return the exit code."""
    if not (args.labels or args.prompts or args.accept_all) and args.is_complete is None:
        parser.error("give --labels, --prompts, --accept-all, --complete or --incomplete")
    if args.labels and (args.prompts or args.accept_all):
        parser.error("--labels says it all: leave out --prompts and --accept-all")
    if not args.labels and (args.keep or args.plane is not None):
        parser.error(f"{'--keep' if args.keep else '--plane'} belongs to --labels")
    from dataclasses import asdict

    from sam_plugins.model.engine.project.labelling import Labelled, Person, bring_label_image
    from sam_plugins.model.engine.project.project import Project
    from sam_plugins.model.engine.project.state import user_name
    from sam_plugins.model.io.label_files import read_labels

    try:
        person = Person(args.author or user_name(), args.seconds, args.class_name)
    except ValueError as error:
        parser.error(str(error))
    # No job: people go on labelling while the model learns.
    with Project.open(args.project) as project:
        record = project.find_image(args.image)
        done = Labelled()
        if args.labels:
            labels = read_labels(args.labels, plane=args.plane)
            done = bring_label_image(project, record, labels, person, keeps_others=args.keep)
        elif args.prompts or args.accept_all:
            done = _prompted(project, record, args, person)
        is_complete = args.is_complete
        if is_complete is None and args.labels and not args.keep:
            is_complete = True
        if is_complete is not None:
            project.labels.set_complete(record.image_id, is_complete)
        record = project.labels.image(record.image_id)
        objects = project.labels.objects(record.image_id)
    if args.json:
        say_json({**asdict(done), "author": person.author, **described_image(record, objects)})
    else:
        say(
            f"{record.name}: {done.accepted} accepted, {done.corrected} corrected, "
            f"{done.added} added, {done.rejected} rejected"
        )
    return 0


def _prompted(project: Project, record: ImageRecord, args: argparse.Namespace, person: Any) -> Any:  # noqa: ANN401
    """Bring in prompts, and accept what is proposed where that is wanted."""
    from sam_plugins.model.engine.project.encoding import usual_cache
    from sam_plugins.model.engine.project.labelling import Labelled, accepting_all, bring_prompts
    from sam_plugins.model.inference.loading import load_model

    document = _read_prompts(args.prompts) if args.prompts else {}
    if args.accept_all:
        document = accepting_all(project, record, document)
        if not any(document.values()):
            return Labelled()  # nothing is proposed, and nothing else was said
    model = load_model(project.model_name(), device=args.device)
    return bring_prompts(project, record, document, person, model, usual_cache())


def _read_prompts(named: str) -> Any:  # noqa: ANN401
    """Read prompts from a file or standard input."""
    import sys

    try:
        text = sys.stdin.read() if named == "-" else Path(named).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnreadableImageError(f"cannot read the prompts {named}: {reason}") from error
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProjectError(
            f"the prompts {named} are no JSON ({error}); they look like "
            '{"objects": [{"points_xy": [[120, 85]]}]}'
        ) from error
