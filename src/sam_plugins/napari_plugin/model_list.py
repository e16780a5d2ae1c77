"""The models that can be chosen, as rows of a table, and what is known about each; no Qt in it."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from sam_plugins.errors import CheckpointError
from sam_plugins.model.inference.memory import in_units
from sam_plugins.model.weights.passport import METADATA_KEY, Passport
from sam_plugins.model.weights.registry import ModelEntry, model_entries
from sam_plugins.model.weights.store import ModelStore, StoredVersion


@dataclass(frozen=True)
class ModelRow:
    """One model of the table.

    Attributes
    ----------
    name : str
        What loads it.
    where : str
        ``"shipped"``, ``"here"``, ``"online"``, ``"yours"``.
    size : str
    licence : str
    good_for : str
    entry : ModelEntry or None
        Of published models.
    version : StoredVersion or None
        Of people's own.
    """

    name: str
    where: str
    size: str
    licence: str
    good_for: str
    entry: ModelEntry | None = None
    version: StoredVersion | None = None

    @property
    def path(self) -> Path:
        """Where its file is, or will be."""
        if self.version is not None:
            return self.version.path
        assert self.entry is not None
        return self.entry.path

    @property
    def is_here(self) -> bool:
        """Whether it can be used at once."""
        return self.path.is_file()

    @property
    def can_download(self) -> bool:
        """Whether it can be fetched."""
        return self.entry is not None and not self.entry.is_shipped and not self.is_here

    @property
    def can_delete(self) -> bool:
        """Whether its file may go: what ships stays, what people use stays."""
        if self.version is not None:
            return not self.version.is_in_use
        return self.entry is not None and not self.entry.is_shipped and self.is_here


def list_models() -> list[ModelRow]:
    """Return people's own models first, the newest of each first, then the published ones.

    Raises
    ------
    StoreError
        If the model store cannot be read.
    """
    store = ModelStore()
    rows = [
        _row_of_version(version)
        for name in store.names()
        for version in reversed(store.versions(name))
    ]
    return [*rows, *(_row_of_entry(entry) for entry in model_entries())]


def _row_of_version(version: StoredVersion) -> ModelRow:
    """Return the row of a model of the store."""
    state = "in use; " if version.is_in_use else ""
    result = str(version.comparison) if version.comparison else "not measured"
    size = version.path.stat().st_size if version.path.is_file() else 0
    text = f"{state}{version.note + '; ' if version.note else ''}{result}"
    return ModelRow(str(version), "yours", in_units(size), "", text, version=version)


def _row_of_entry(entry: ModelEntry) -> ModelRow:
    """Return the row of a published model."""
    is_here = entry.path.is_file()
    where = "shipped" if entry.is_shipped else "here" if is_here else "online"
    size = entry.path.stat().st_size if is_here else entry.size_bytes
    return ModelRow(entry.name, where, in_units(size), entry.licence, entry.good_for, entry=entry)


def passport_html(row: ModelRow) -> str:
    """Return everything that is known about a model, as simple HTML.

    Of a file that is here only the header is read.

    Raises
    ------
    CheckpointError
        If the file is damaged.
    """
    return "".join(f"<p><b>{html.escape(key)}</b>: {value}</p>" for key, value in _facts(row))


def _facts(row: ModelRow) -> Iterator[tuple[str, str]]:
    """Yield what is known, most important first."""
    passport = _passport_of(row)
    yield "Name", html.escape(row.name)
    licence = (passport.licence if passport else "") or row.licence or "not stated"
    yield "Licence", html.escape(licence)
    if passport is not None and passport.description:
        yield "Good for", html.escape(passport.description)
    else:
        yield "Good for", html.escape(row.good_for)
    if row.version is not None:
        version = row.version
        yield "In use", "yes" if version.is_in_use else "no"
        if version.comparison is not None:
            yield "Held-out comparison", html.escape(str(version.comparison))
    if row.entry is not None:
        yield "What it expects to see", html.escape(row.entry.input_convention)
    if passport is not None:
        yield from _passport_facts(passport)
    yield "File", html.escape(f"{row.path}" if row.is_here else f"not here yet ({row.size})")


def _passport_facts(passport: Passport) -> Iterator[tuple[str, str]]:
    """Yield what a file of ours says of itself."""
    yield "Version", html.escape(f"{passport.version}, {passport.created[:10]}")
    if passport.parent:
        yield "Trained from", html.escape(passport.parent)
    if passport.training_data:
        items = "".join(
            f"<li>{html.escape(source.name)}: {source.pictures} pictures, {source.objects} objects"
            f"{html.escape(f' ({source.licence})' if source.licence else '')}</li>"
            for source in passport.training_data
        )
        yield "Trained on", f"<ul>{items}</ul>"
    if passport.metrics:
        items = "".join(
            f"<li>{html.escape(name)}: "
            + html.escape(", ".join(f"{key} {value:.3f}" for key, value in figures.items()))
            + "</li>"
            for name, figures in passport.metrics.items()
        )
        yield "Measured", f"<ul>{items}</ul>"


def _passport_of(row: ModelRow) -> Passport | None:
    """Return the passport of a file of ours."""
    if not row.is_here or row.path.suffix != ".safetensors":
        return None
    try:
        with safe_open(row.path, framework="numpy") as file:
            document = (file.metadata() or {}).get(METADATA_KEY)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{row.path} cannot be read ({error}); delete it and get it again"
        ) from error
    return None if document is None else Passport.from_json(document)
