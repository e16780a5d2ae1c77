"""What a model file says of itself: a JSON document in the header of the safetensors file.

The header holds one metadata entry, so that equal content gives equal bytes.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from sam_plugins.errors import CheckpointError
from sam_plugins.model.networks.config import (
    Preprocessing,
    SamConfig,
    UnknownConfigError,
    require_fitting_input,
    require_kinds,
)

METADATA_KEY = "sam_plugins_passport"
FORMAT_VERSION = 1
MAE_KIND = "masked autoencoder"
"""Under ``weights_of`` in ``extra``: the file holds an encoder to start from, no whole model."""


@dataclass(frozen=True)
class DataSource:
    """One set of pictures that a model was trained on.

    Parameters
    ----------
    name : str
        Name of the set and, where it has them, of the split.
    sha256 : str
        Digest of what was read, in hexadecimal, so that "the same data" can be checked.
    pictures, objects : int
        How many were used.
    licence : str
        Licence of the set.
    """

    name: str
    sha256: str = ""
    pictures: int = 0
    objects: int = 0
    licence: str = ""


def _now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Passport:
    """Everything about a model that its weights do not say.

    Parameters
    ----------
    name : str
        Short name, the first part of the model's id.
    config : SamConfig
        Architecture and preprocessing.
    version : str
        Version of the model, counted by its makers.
    licence : str
        Licence of the weights.
    description : str
        What the model is good for, in a line.
    training_data : tuple of DataSource
        What it was trained on.
    metrics : dict of str to dict of str to float
        Results on data held out of training: set, then metric.
    parent : str or None
        Id of the model that training started from.
    created : str
        ISO 8601 time in UTC.
    extra : dict
        Fields of a later version of the format, kept as they came.

    Examples
    --------
    >>> passport = Passport(name="tiny", config=SamConfig(), version="1")
    >>> Passport.from_json(passport.to_json()) == passport
    True
    """

    name: str
    config: SamConfig
    version: str = "0"
    licence: str = ""
    description: str = ""
    training_data: tuple[DataSource, ...] = ()
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    parent: str | None = None
    created: str = field(default_factory=_now)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def preprocessing(self) -> Preprocessing:
        """How a picture becomes the network's input."""
        return self.config.preprocessing

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: architecture and preprocessing side by side."""
        architecture = self.config.to_dict()
        preprocessing = architecture.pop("preprocessing")
        if math.isinf(preprocessing["max_enlargement"]):
            preprocessing["max_enlargement"] = None  # JSON knows no infinity.
        return {
            **self.extra,
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "version": self.version,
            "created": self.created,
            "licence": self.licence,
            "description": self.description,
            "parent": self.parent,
            "architecture": architecture,
            "preprocessing": preprocessing,
            "training_data": [asdict(source) for source in self.training_data],
            "metrics": self.metrics,
        }

    def to_json(self) -> str:
        """Return the document, with sorted keys."""
        return json.dumps(self.to_dict(), sort_keys=True, allow_nan=False)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Passport:
        """Check a document and build the passport.

        Raises
        ------
        CheckpointError
            If a field is missing, of the wrong kind, or the document was written by a later
            version of this package in a way that this one cannot read.
        """
        version = values.get("format_version")
        if not isinstance(version, int) or version < 1:
            raise _bad(f"format_version must be an integer of 1 or more, got {version!r}")
        if version > FORMAT_VERSION:
            raise CheckpointError(
                f"the file's passport has format {version}, this version of sam-plugins reads up "
                f"to {FORMAT_VERSION}: upgrade sam-plugins"
            )
        own = {spec.name for spec in fields(cls)} - {"config", "extra"}
        known = own | {"format_version", "architecture", "preprocessing"}
        return cls(
            name=_text(values, "name", required=True),
            config=_config(values),
            version=_text(values, "version", required=True),
            licence=_text(values, "licence"),
            description=_text(values, "description"),
            training_data=_training_data(values.get("training_data", [])),
            metrics=_metrics(values.get("metrics", {})),
            parent=_text(values, "parent") or None,
            created=_text(values, "created"),
            extra={key: value for key, value in values.items() if key not in known},
        )

    @classmethod
    def from_json(cls, document: str) -> Passport:
        """Read :meth:`to_json`'s document.

        Raises
        ------
        CheckpointError
            If the document is no JSON object, or as in :meth:`from_dict`.
        """
        try:
            values = json.loads(document, parse_float=_finite, parse_constant=_finite)
        except ValueError as error:
            raise _bad(f"it is no JSON ({error})") from error
        except RecursionError as error:
            raise _bad("it is nested too deeply") from error
        if not isinstance(values, dict):
            raise _bad(f"it must be a JSON object, got {type(values).__name__}")
        return cls.from_dict(values)


def _finite(number: str) -> float:
    """Read a number of JSON, which knows neither NaN nor infinity."""
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number} is no finite number")
    return value


def _bad(reason: str) -> CheckpointError:
    """Return the error for a passport that makes no sense."""
    return CheckpointError(
        f"the file's passport cannot be used: {reason}. The file is damaged or was written by "
        "other software; get it again from where it came"
    )


def _text(values: Mapping[str, Any], key: str, *, required: bool = False) -> str:
    """Return a text field; None counts as empty."""
    value = values.get(key)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or (required and not value):
        raise _bad(f"{key} must be a text, got {reprlib.repr(value)}")
    return value


def _config(values: Mapping[str, Any]) -> SamConfig:
    """Return the architecture with its preprocessing."""
    architecture, preprocessing = values.get("architecture"), values.get("preprocessing")
    if not isinstance(architecture, dict) or not isinstance(preprocessing, dict):
        raise _bad("architecture and preprocessing must be objects")
    if preprocessing.get("max_enlargement", 1) is None:
        preprocessing = {**preprocessing, "max_enlargement": math.inf}
    try:
        config = SamConfig.from_dict({**architecture, "preprocessing": preprocessing})
        require_fitting_input(config)
    except UnknownConfigError as error:
        raise CheckpointError(
            "the file's passport describes an architecture that this version of sam-plugins does "
            f"not know: {error}. Upgrade sam-plugins"
        ) from error
    except ValueError as error:
        raise _bad(str(error)) from error
    return config


def _training_data(values: object) -> tuple[DataSource, ...]:
    """Return the training sets; fields that we do not know are dropped."""
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise _bad("training_data must be a list of objects")
    own = {spec.name for spec in fields(DataSource)}
    sources = [{key: v for key, v in value.items() if key in own} for value in values]
    try:
        for source in sources:
            require_kinds(DataSource, source)
        return tuple(DataSource(**source) for source in sources)
    except ValueError as error:
        raise _bad(f"in training_data {error}") from error
    except TypeError as error:
        raise _bad(f"an entry of training_data has no name ({error})") from error


def _metrics(values: object) -> dict[str, dict[str, float]]:
    """Return the results, each a number."""
    if not isinstance(values, dict):
        raise _bad("metrics must be an object")
    for dataset, results in values.items():
        if not isinstance(results, dict) or not all(
            isinstance(result, (int, float)) and not isinstance(result, bool)
            for result in results.values()
        ):
            raise _bad(f"metrics of {dataset!r} must be numbers by name")
    return values
