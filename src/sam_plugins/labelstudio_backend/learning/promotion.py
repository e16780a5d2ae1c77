"""A trained model comes into use where it is better, and goes again where people want that."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from sam_plugins.errors import PromotionError
from sam_plugins.labelstudio_backend.learning.jobs import JobState
from sam_plugins.model.engine.held_out import Round, compare_rounds
from sam_plugins.model.engine.project.project import Project
from sam_plugins.model.engine.run_folder import RunFolder
from sam_plugins.model.weights.comparison import Comparison
from sam_plugins.model.weights.convert import convert_checkpoint
from sam_plugins.model.weights.loading import load_checkpoint
from sam_plugins.model.weights.store import ModelStore, StoredVersion

_BASE_NOTE = "the model to begin with, to roll back to"


@dataclass(frozen=True)
class Outcome:
    """What came of a training.

    Attributes
    ----------
    state : JobState
    message : str
        For people.
    version : str
        In the model store; empty where nothing was better.
    """

    state: JobState
    message: str
    version: str = ""


def finish(project: Project, run: RunFolder) -> Outcome:
    """Store the best weights of a complete run, and put them into use if they are better.

    The same again gives the same: whoever was killed half-way begins anew.

    Parameters
    ----------
    project : Project
    run : RunFolder
        Its note is kept with the version, for people.

    Raises
    ------
    StoreError
        If the model store cannot be written.
    """
    rounds = run.rounds()
    best = max(rounds, key=lambda one: one.value)
    comparison = compare_rounds(rounds[0], best, run.parent_id, chosen_of=max(1, len(rounds) - 1))
    if best.step == 0:
        return Outcome(
            JobState.KEPT_OUT,
            f"after no round was it better than the model in use, {_said(rounds[0])}: label more, "
            "pictures that it fails on above all",
        )
    version = _stored(project.models, project.settings.name, run, comparison)
    try:
        promoted = _promoted(project.models, version, run.parent)
    except PromotionError as error:
        return Outcome(JobState.KEPT_OUT, str(error), str(version))
    return Outcome(JobState.PROMOTED, str(promoted.comparison), str(version))


def _stored(store: ModelStore, name: str, run: RunFolder, comparison: Comparison) -> StoredVersion:
    """Put weights into the store, unless they are there already."""
    model_id = load_checkpoint(run.best_path).model_id
    for version in store.versions(name):
        if version.model_id == model_id:
            return version
    return store.add(
        name, run.best_path, model_id=model_id, comparison=comparison, note=run.config.note
    )


def _promoted(store: ModelStore, version: StoredVersion, parent: str) -> StoredVersion:
    """Put a version into use; before the first one comes what people worked with until then."""
    if version.is_in_use:
        return version
    if store.in_use(version.name) is not None:
        return store.promote(str(version))
    if version.comparison is None or not version.comparison.is_better:
        return store.promote(str(version))  # Says why not.
    base = _base(store, version.name, parent)
    if base.model_id != version.comparison.parent:
        raise PromotionError(
            f"{version} was measured against {version.comparison.parent}, but {parent} is "
            f"{base.model_id} now; train again"
        )
    store.promote(str(base), force=True)
    return store.promote(str(version))


def _base(store: ModelStore, name: str, parent: str) -> StoredVersion:
    """Return the model to begin with as a version of the store."""
    loaded = load_checkpoint(Path(parent))
    for version in store.versions(name):
        if version.model_id == loaded.model_id:
            return version
    if loaded.passport is not None and loaded.path.suffix == ".safetensors":
        return store.add(name, loaded.path, model_id=loaded.model_id, note=_BASE_NOTE)
    with tempfile.TemporaryDirectory(prefix="sam-plugins-") as folder:
        path = convert_checkpoint(parent, Path(folder) / "model.safetensors")
        # The same weights in another file: what was measured against one holds for the other.
        return store.add(name, path, model_id=loaded.model_id, note=_BASE_NOTE)


def _said(one: Round) -> str:
    """Return the figures of a round in words."""
    return ", ".join(f"{name} {value:.3f}" for name, value in one.figures.items())
