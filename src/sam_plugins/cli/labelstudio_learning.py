"""``labelstudio versions``, ``rollback``, ``train`` and ``cancel``: what a backend has learned."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from sam_plugins.cli.console import say, say_json, table
from sam_plugins.cli.labelstudio_extra import require_extra
from sam_plugins.errors import DatasetError, LearningError, StoreError

if TYPE_CHECKING:
    from sam_plugins.labelstudio_backend.learning.backend import BackendLearning

_PAUSE_SECONDS = 1.0
_PREDICTIONS = (
    "it makes predictions of tasks that nobody has begun anew, unless "
    "SAM_PLUGINS_LS_REFRESH_PREDICTIONS=false; its /status says how far it is"
)


def add_actions(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add the actions; the backend's folder is that of its settings, ``SAM_PLUGINS_LS_FOLDER``."""
    shared = argparse.ArgumentParser(add_help=False, parents=[common])
    shared.add_argument(
        "project",
        metavar="PROJECT",
        nargs="?",
        help="number of the project in Label Studio, or ID.CREATED where two servers have the "
        "same number; not needed where there is one project",
    )
    shared.add_argument("--json", action="store_true", help="print as JSON")
    versions = actions.add_parser(
        "versions", parents=[shared], help="list what a project's model has learned so far"
    )
    versions.set_defaults(run=run_versions)
    back = actions.add_parser(
        "rollback", parents=[shared], help="put the model into use that was before this one"
    )
    back.set_defaults(run=run_rollback)
    train = actions.add_parser(
        "train",
        parents=[shared],
        help="let the model learn from all annotations so far",
        description="The backend trains; where none runs on its folder, this command does and "
        "waits until the training ends.",
    )
    train.set_defaults(run=run_train)
    cancel = actions.add_parser("cancel", parents=[shared], help="end a training, keep the model")
    cancel.set_defaults(run=run_cancel)


def run_versions(args: argparse.Namespace) -> int:
    """List versions."""
    from sam_plugins.labelstudio_backend.learning.keys import model_name_of
    from sam_plugins.model.weights.store import ModelStore

    learning = _learning()
    keys = learning.projects() if args.project is None else [_key(learning, args.project)]
    found = [one for key in keys for one in ModelStore().versions(model_name_of(key))]
    if args.json:
        say_json(
            [
                {
                    "version": str(one),
                    "in_use": one.is_in_use,
                    "created": one.created,
                    "note": one.note,
                    "comparison": None if one.comparison is None else str(one.comparison),
                }
                for one in found
            ]
        )
        return 0
    if not found:
        say("no version yet: nothing was trained, or nothing was better than the first model")
        return 0
    rows = [
        {
            "version": str(one),
            "in use": "yes" if one.is_in_use else "",
            "made": one.created[:16].replace("T", " "),
            "held-out pictures": one.note if one.comparison is None else str(one.comparison),
        }
        for one in found
    ]
    say(table(rows))
    return 0


def run_rollback(args: argparse.Namespace) -> int:
    """Roll back."""
    learning = _learning()
    key = _key(learning, args.project)
    if not learning.versions(key):
        raise LearningError(
            f"there is nothing to roll back: project {key.partition('.')[0]} is answered by the "
            "first model, and none that was trained came into use"
        )
    try:
        version = learning.roll_back(key)
    except StoreError as error:
        raise LearningError(
            f"{error}; to put a later one into use: sam-plugins models promote NAME@NUMBER"
        ) from error
    if args.json:
        say_json({"in_use": str(version)})
    else:
        say(f"{version} is in use again; a backend that runs swaps to it within seconds")
        say(_PREDICTIONS)
    return 0


def run_train(args: argparse.Namespace) -> int:
    """Ask for a training, or do it."""
    learning = _learning()
    key = _key(learning, args.project, may_be_new=True)
    is_busy = learning.is_training(key)
    is_at_work = learning.is_at_work()
    if is_at_work:
        try:
            learning.require_enough_labels(key)
        except DatasetError as error:
            raise LearningError(
                f"too few labels: {error}; the backend's /status says what is known, and left out"
            ) from error
    learning.request_training(key, "asked for on the command line")
    if is_at_work:
        if args.json:
            say_json({"project": key, "state": "wanted"})
        else:
            begins = "when the training that runs has ended" if is_busy else "within seconds"
            say(f"the backend begins {begins}; progress is on its /status page")
        return 0
    return _trained_here(learning, key, is_json=args.json)


def run_cancel(args: argparse.Namespace) -> int:
    """Cancel a training."""
    learning = _learning()
    found = learning.cancel_training(_key(learning, args.project))
    if args.json:
        say_json({"cancelled": found})
    else:
        say("the training ends within moments" if found else "no training runs or waits")
    return 0


def _trained_here(learning: BackendLearning, key: str, *, is_json: bool) -> int:
    """Do the work of a backend until the training ends; return the exit code."""
    if not is_json:
        say("no backend runs on this folder, so the training is watched from here")
    try:
        while True:
            learning.work()
            described = learning.status()["projects"][key]
            if "trainings" not in described:
                raise LearningError(described["error"])
            job = described["trainings"][0]
            if job["state"] not in {"wanted", "running"}:
                break
            time.sleep(_PAUSE_SECONDS)
    finally:
        learning.close()
    if is_json:
        say_json({"project": key, **job})
    else:
        say(f"{job['state']}: {job['message']}")
    return 0 if job["state"] in {"promoted", "not better"} else 1


def _learning() -> BackendLearning:
    """Return the learning of the backend whose settings are in the environment."""
    require_extra()
    from sam_plugins.labelstudio_backend.learning.creating import create_learning
    from sam_plugins.labelstudio_backend.settings import Settings

    return create_learning(Settings())


def _key(learning: BackendLearning, named: str | None, *, may_be_new: bool = False) -> str:
    """Return the key of the project that is meant."""
    known = learning.projects()
    if named is None and len(known) == 1:
        return known[0]
    found = [key for key in known if named in {key, key.partition(".")[0]}]
    if len(found) == 1:
        return found[0]
    listed = f"known are {', '.join(known)}" if known else "none has sent anything yet"
    if named is None:
        raise LearningError(f"name a project; {listed}")
    if not found and may_be_new and (key := learning.find_project(named)) is not None:
        return key
    meant = "several projects" if found else "no project"
    raise LearningError(
        f"{named!r} names {meant} of this backend's folder; {listed}. It is "
        "that of the settings: SAM_PLUGINS_LS_FOLDER must be what the backend has"
    )
