"""``sam-plugins models``: weights to list, download, show, convert, delete; your own versions."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_plugins.cli import arguments
from sam_plugins.cli.console import complain, in_bytes, mention, say, say_json, table
from sam_plugins.errors import ForeignCheckpointError, UnknownModelError

if TYPE_CHECKING:
    from sam_plugins.model.weights.registry import ModelEntry

    _Actions = argparse._SubParsersAction[argparse.ArgumentParser]

_SUMMARY = (
    "name", "where", "file", "size_bytes", "licence", "good_for", "input", "model_id",
    "architecture", "parameters", "also in the file",
)  # fmt: skip
_FEW = 4


def add_parser(commands: _Actions, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "models",
        help="list, download, show, convert; your own versions",
        description=arguments.in_words(__doc__),
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for add_action in (
        _add_list,
        _add_download,
        _add_show,
        _add_convert,
        _add_versions,
        _add_promote,
        _add_rollback,
        _add_delete,
    ):
        add_action(actions, common)


def _add_list(actions: _Actions, common: argparse.ArgumentParser) -> None:
    """Add the action that lists models that have a name."""
    listing = actions.add_parser("list", parents=[common], help="the models that have a name")
    listing.add_argument("--json", action="store_true", help="print as JSON")
    listing.set_defaults(run=run_list)


def _add_download(actions: _Actions, common: argparse.ArgumentParser) -> None:
    """Add the action that fetches weights."""
    download = actions.add_parser("download", parents=[common], help="fetch weights and check them")
    download.add_argument("names", nargs="+", metavar="NAME", help="names from the list")
    download.set_defaults(run=run_download)


def _add_show(actions: _Actions, common: argparse.ArgumentParser) -> None:
    """Add the action that describes a model."""
    show = actions.add_parser("show", parents=[common], help="what is known about a model")
    show.add_argument("model", metavar="MODEL", help="a name from the list, or a file")
    show.add_argument(
        "--full", action="store_true", help="everything, down to how it was trained and measured"
    )
    show.add_argument("--json", action="store_true", help="print as JSON")
    show.set_defaults(run=run_show)


def _add_convert(actions: _Actions, common: argparse.ArgumentParser) -> None:
    """Add the action that rewrites a checkpoint."""
    convert = actions.add_parser(
        "convert",
        parents=[common],
        help="rewrite any checkpoint as safetensors with a passport; an MAE checkpoint as a SAM "
        "to train",
    )
    convert.add_argument("source", metavar="SOURCE", help="a name from the list, or a file")
    convert.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="a new .safetensors file"
    )
    convert.add_argument("--name", help="name in the passport")
    convert.add_argument("--licence", help="licence in the passport")
    convert.add_argument("--half", action="store_true", help="store float16: half the size")
    convert.add_argument("--overwrite", action="store_true", help="replace an existing file")
    convert.set_defaults(run=lambda args: run_convert(args, convert))


def _add_versions(actions: _Actions, common: argparse.ArgumentParser) -> None:
    """Add the action that lists what was trained."""
    versions = actions.add_parser(
        "versions", parents=[common], help="the models that you trained, and which are in use"
    )
    versions.add_argument("names", nargs="*", metavar="NAME", help="of models in the store (all)")
    versions.add_argument("--json", action="store_true", help="print as JSON")
    versions.set_defaults(run=run_versions)


def _add_promote(actions: _Actions, common: argparse.ArgumentParser) -> None:
    """Add the action that puts a version into use."""
    promote = actions.add_parser(
        "promote", parents=[common], help="put a version into use, if it is shown to be better"
    )
    promote.add_argument(
        "reference", type=arguments.stored_model, metavar="NAME[@NUMBER]",
        help="the newest, or that one",
    )  # fmt: skip
    promote.add_argument("--force", action="store_true", help="even if it is not")
    promote.set_defaults(run=run_promote)


def _add_rollback(actions: _Actions, common: argparse.ArgumentParser) -> None:
    """Add the action that goes back a version."""
    rollback = actions.add_parser(
        "rollback", parents=[common], help="put the version into use that was before"
    )
    rollback.add_argument(
        "name", type=arguments.stored_model, metavar="NAME", help="of a model in the store"
    )
    rollback.set_defaults(run=run_rollback)


def _add_delete(actions: _Actions, common: argparse.ArgumentParser) -> None:
    """Add the action that removes versions and downloads."""
    delete = actions.add_parser(
        "delete",
        parents=[common],
        help="remove versions, or weights that were downloaded, for good",
    )
    delete.add_argument(
        "references", nargs="+", type=arguments.stored_model, metavar="NAME[@NUMBER]",
        help="a version such as cells@3, or a name from the list whose weights are downloaded",
    )  # fmt: skip
    delete.add_argument("--force", action="store_true", help="also a version that is in use")
    delete.add_argument("--json", action="store_true", help="print as JSON")
    delete.set_defaults(run=run_delete)


def run_list(args: argparse.Namespace) -> int:
    """Print the models that have a name; return the exit code."""
    from sam_plugins.model.weights.registry import model_entries

    if args.json:
        say_json([_entry_values(entry) for entry in model_entries()])
        return 0
    rows = [
        {
            "name": entry.name,
            "where": _where(entry),
            "size": in_bytes(_size(entry)),
            "licence": entry.licence,
            "good for": entry.good_for,
        }
        for entry in model_entries()
    ]
    say(table(rows))
    return 0


def run_download(args: argparse.Namespace) -> int:
    """Fetch models by name; return the exit code."""
    from sam_plugins.model.weights.download import fetch
    from sam_plugins.model.weights.registry import find_entry

    entries = [find_entry(name) for name in args.names]  # all names first: no half of the work
    for entry in entries:
        if entry.is_shipped:
            mention(f"{entry.name} comes with the package: nothing to download")
            path = entry.path
        else:
            path = fetch(entry)
        say(str(path))
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Print what is known about a model; return the exit code."""
    values = describe_model(args.model)
    if args.json:
        say_json(values)
        return 0
    if not args.full:
        values = _summarised(values)
    for key, value in values.items():
        _say_value(key, value, 0)
    if not args.full:
        say("Everything else is told with --full, or with --json.")
    return 0


def run_versions(args: argparse.Namespace) -> int:
    """Print the versions of stored models; return the exit code."""
    from dataclasses import asdict

    from sam_plugins.model.weights.store import ModelStore

    store = ModelStore()
    names = args.names or store.names()
    found = {name: store.versions(name) for name in names}
    for name, versions in found.items():
        if not versions:
            store.find(name)  # Says what there is instead.
    every = [version for versions in found.values() for version in versions]
    if args.json:
        say_json([{**asdict(one), "path": str(one.path)} for one in every])
        return 0
    if not every:
        complain(f"no model in {store.directory} yet; `sam-plugins train` makes one")
        return 0
    say(
        table(
            [
                {
                    "version": str(one),
                    "in use": "yes" if one.is_in_use else "",
                    "created": one.created[:16].replace("T", " "),
                    "held out": "" if one.comparison is None else str(one.comparison),
                    "note": one.note,
                }
                for one in every
            ]
        )
    )
    return 0


def run_promote(args: argparse.Namespace) -> int:
    """Put a version into use; return the exit code."""
    from sam_plugins.model.weights.store import ModelStore

    say(f"{ModelStore().promote(args.reference, force=args.force)} is in use")
    return 0


def run_rollback(args: argparse.Namespace) -> int:
    """Go back one version; return the exit code."""
    from sam_plugins.model.weights.store import ModelStore

    say(f"{ModelStore().rollback(args.name)} is in use again")
    return 0


def run_delete(args: argparse.Namespace) -> int:
    """Remove versions and downloaded weights; return the exit code."""
    from sam_plugins.model.weights.download import remove_download
    from sam_plugins.model.weights.registry import find_entry
    from sam_plugins.model.weights.store import ModelStore

    store = ModelStore()
    deleted: list[dict[str, Any]] = []
    args.so_far = lambda: {"deleted": deleted}
    for one in dict.fromkeys(args.references):
        if "@" in one or one in store.names():
            version = store.delete(one, force=args.force)
            deleted.append({"name": str(version), "path": str(version.path)})
            now = store.in_use(version.name)
            after = f"; {now or 'no version'} is in use now" if version.is_in_use else ""
        else:
            entry = find_entry(one)
            deleted.append({"name": entry.name, "path": str(remove_download(entry))})
            after = ""
        if not args.json:
            say(f"{deleted[-1]['name']} is deleted{after}")
    if args.json:
        say_json(args.so_far())
    return 0


def run_convert(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Rewrite a checkpoint; return the exit code."""
    if not args.output.endswith(".safetensors"):
        parser.error(f"--output must end in .safetensors, got {args.output}")
    import torch

    from sam_plugins.model.io.leftovers import remove_leftovers
    from sam_plugins.model.weights.convert import convert_checkpoint, convert_mae

    remove_leftovers(Path(args.output).parent)
    options: dict[str, Any] = {
        "name": args.name,
        "licence": args.licence,
        "dtype": torch.float16 if args.half else torch.float32,
        "overwrite": args.overwrite,
    }
    try:
        path = convert_checkpoint(args.source, args.output, **options)
    except ForeignCheckpointError:
        started = convert_mae(args.source, args.output, **options)
        if started is None:
            raise
        path = started
        complain(
            "warning: all but its image encoder is random, so that its masks mean nothing yet: "
            f"`sam-plugins train PICTURES --from {path}` trains it"
        )
    say(str(path))
    return 0


def describe_model(name_or_path: str) -> dict[str, Any]:
    """Return everything known about a model, without downloading it.

    Raises
    ------
    UnknownModelError
        If no model has that name.
    CheckpointError
        If the file cannot be read.
    """
    from sam_plugins.model.weights.loading import load_checkpoint
    from sam_plugins.model.weights.registry import find_entry

    values: dict[str, Any] = {}
    try:
        entry = find_entry(name_or_path)
    except UnknownModelError:
        pass  # a file, or a name whose error load_checkpoint gives with the nearest names
    else:
        values = _entry_values(entry)
        if not entry.path.is_file():
            return values
    loaded = load_checkpoint(name_or_path)
    config = loaded.config.to_dict()
    values |= {
        "file": str(loaded.path),
        "model_id": loaded.model_id,
        "sha256": loaded.sha256,
        "parameters": sum(t.numel() for t in loaded.state_dict.values() if t.is_floating_point()),
        "architecture": loaded.config.image_encoder.kind,
        "preprocessing": _finite(config["preprocessing"]),
    }
    if loaded.left_aside:
        values["also in the file"] = list(loaded.left_aside)
    if loaded.passport is not None:
        passport = loaded.passport.to_dict()
        for key in ("architecture", "preprocessing"):
            passport.pop(key, None)
        values["passport"] = passport
    return values


def _summarised(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a model fits a screen."""
    passport = values.get("passport", {})
    shown = {key: values[key] for key in _SUMMARY if values.get(key)}
    if "size_bytes" in shown:
        shown["size"] = in_bytes(shown.pop("size_bytes"))
    shown |= {key: passport[key] for key in ("licence", "version", "created") if passport.get(key)}
    if passport.get("description"):
        shown["good_for"] = passport["description"]
    if "parameters" in shown:
        shown["parameters"] = f"{shown['parameters'] / 1e6:.1f} million"
    if sources := passport.get("training_data"):
        pictures, objects = (
            sum(source[key] for source in sources) for key in ("pictures", "objects")
        )
        sets = sum(source["pictures"] > 0 for source in sources)  # not what a parent learned from
        shown["trained on"] = f"{sets} sets: {pictures} pictures, {objects} objects"
    for name, figures in passport.get("metrics", {}).items():
        if "mean over" in name or len(passport["metrics"]) <= _FEW:
            shown[name] = ", ".join(f"{figure} {value:.3g}" for figure, value in figures.items())
    return shown


def _entry_values(entry: ModelEntry) -> dict[str, Any]:
    """Return an entry of the registry as plain values."""
    return {
        "name": entry.name,
        "aliases": list(entry.aliases),
        "where": _where(entry),
        "path": str(entry.path),
        "size_bytes": _size(entry),
        "licence": entry.licence,
        "good_for": entry.good_for,
        "input": entry.input_convention,
        "digest": entry.digest,
        "urls": list(entry.urls),
    }


def _where(entry: ModelEntry) -> str:
    """Say whether a model is on this machine."""
    if entry.is_shipped:
        return "shipped" if entry.path.is_file() else "missing"
    return "downloaded" if entry.path.is_file() else "online"


def _size(entry: ModelEntry) -> int:
    """Return the size of the file that is here, or of the one to download."""
    return entry.path.stat().st_size if entry.path.is_file() else entry.size_bytes


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """Return values for JSON, which knows no infinity."""
    return {key: None if value == float("inf") else value for key, value in values.items()}


def _say_value(key: str, value: Any, depth: int) -> None:  # noqa: ANN401
    """Print a value, nested ones indented."""
    indent = "  " * depth
    name = key.replace("_", " ")
    if isinstance(value, dict) and value:
        say(f"{indent}{name}:")
        for inner_key, inner in value.items():
            _say_value(str(inner_key), inner, depth + 1)
    elif isinstance(value, list | tuple) and value and isinstance(value[0], dict):
        say(f"{indent}{name}:")
        for inner in value:
            say(f"{indent}  {', '.join(f'{k} {v}' for k, v in inner.items() if v)}")
    else:
        shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        shown = "-" if shown in (None, "") else shown
        say(f"{indent}{name + ':':<{max(1, 17 - len(indent))}} {shown}")
