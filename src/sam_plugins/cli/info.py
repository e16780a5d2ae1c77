"""``sam-plugins info``: what a bug report needs."""

from __future__ import annotations

import argparse
import os
import platform
from importlib import metadata
from typing import Any

from sam_plugins import __version__
from sam_plugins.cli import arguments
from sam_plugins.cli.console import in_bytes, say, say_json

_PACKAGES = ("torch", "numpy", "scipy", "scikit-image", "pillow", "tifffile", "zarr", "napari")


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "info",
        parents=[common],
        help="versions, devices, folders",
        description=arguments.in_words(__doc__),
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the information; return the exit code."""
    values = collect()
    if args.json:
        say_json(values)
        return 0
    for key, value in values.items():
        shown = value
        if isinstance(value, dict):
            shown = ", ".join(f"{k} {v}" for k, v in value.items()) or "none"
        elif isinstance(value, list):
            shown = ", ".join(value) or "none"
        elif key.endswith("_bytes"):
            shown = in_bytes(value)
        say(f"{key.removesuffix('_bytes').replace('_', ' ') + ':':<16}{shown}")
    return 0


def collect() -> dict[str, Any]:
    """Return the information as plain values."""
    from sam_plugins.model.inference.cache import EmbeddingCache
    from sam_plugins.model.weights.paths import (
        embeddings_directory,
        home_directory,
        is_offline,
        models_directory,
        store_directory,
    )
    from sam_plugins.model.weights.registry import model_entries

    return {
        "sam_plugins": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "devices": devices(),
        "backends": backends(),
        "home": str(home_directory()),
        "offline": is_offline(),
        "models": str(models_directory()),
        "models_here": [entry.name for entry in model_entries() if entry.path.is_file()],
        "store": str(store_directory()),
        "embeddings": str(embeddings_directory()),
        "cache_bytes": EmbeddingCache(embeddings_directory()).disk_bytes,
    }


def devices() -> dict[str, str]:
    """Return the devices on which a model can run, with a word about each."""
    import torch

    found = {"cpu": f"({os.cpu_count()} cores, {torch.get_num_threads()} threads)"}
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found[f"cuda:{index}"] = f"({properties.name}, {in_bytes(properties.total_memory)})"
    if torch.backends.mps.is_available():
        found["mps"] = "(Apple)"
    return found


def backends() -> dict[str, str]:
    """Return what can run the image encoder, with a word about each."""
    from sam_plugins.model.inference.loading import installed_backends

    words = {True: "(installed)", False: "(not installed, extra fast)"}
    return {name: words[is_there] for name, is_there in installed_backends().items()}


def _version(package: str) -> str | None:
    """Return the version of a package, None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
