"""Everything that a training run is asked for: one checked class, which YAML files hold."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml

from sam_plugins.errors import DatasetError, OutputError
from sam_plugins.model.engine.tuning_options import FineTuningOptions
from sam_plugins.model.io.atomic import write_bytes
from sam_plugins.model.training.choices import CropSize

T = TypeVar("T")


@dataclass(frozen=True)
class RunConfig:
    """A training run.

    Parameters
    ----------
    name : str
        Of the model in the store.
    data : str
        Folder of pictures, with ``labels``; or folder of data sets with manifests.
    labels, ignore : str, optional
        Folders of label images, and of pictures that are not 0 where the truth is not known, of the
        same names.
    sets : tuple of str, optional
        Which data sets; all by default.
    sparse : bool
        Whether objects are left unlabelled: what has no label is then not background.
    held_out : float
        Share of the pictures with ``labels`` that is only measured on.
    parent : str
        Model to start from, by name or file.
    note : str
        Kept with the version, for people.
    device : str, optional
        Such as ``"cpu"`` or ``"cuda"``; the first CUDA GPU, or the CPU, by default.
    devices : int
        Processes, each with a device of its own; more than one needs Lightning Fabric.
    tensorboard : bool
        Whether the log is written for TensorBoard too.
    training : FineTuningOptions

    Raises
    ------
    ValueError
        If values are out of range or do not fit each other.

    Examples
    --------
    >>> config = RunConfig(name="cells", data="pictures", labels="labels")
    >>> RunConfig.from_yaml(config.to_yaml()) == config
    True
    """

    name: str
    data: str
    labels: str | None = None
    ignore: str | None = None
    sets: tuple[str, ...] | None = None
    sparse: bool = False
    held_out: float = 0.25
    parent: str = "default"
    note: str = ""
    device: str | None = None
    devices: int = 1
    tensorboard: bool = False
    training: FineTuningOptions = field(default_factory=FineTuningOptions)

    def __post_init__(self) -> None:
        """Check what one value cannot tell."""
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must lie between 0 and 1, got {self.held_out}")
        if self.devices < 1:
            raise ValueError(f"devices must be 1 or more, got {self.devices}")
        if self.labels is not None and self.sets is not None:
            raise ValueError("sets belongs to folders with manifests, not to labels; drop one")
        if self.labels is None and self.ignore is not None:
            raise ValueError("ignore belongs to a folder of pictures with labels; name labels too")

    def with_whole_paths(self, parent: Path) -> Self:
        """Return the same with paths that mean the same from any folder.

        Parameters
        ----------
        parent : Path
            The file that :attr:`parent` means. Where that is a name, the name stays.
        """
        folders: dict[str, Any] = {
            name: str(Path(value).resolve())
            for name in ("data", "labels", "ignore")
            if (value := getattr(self, name)) is not None
        }
        named = Path(self.parent).expanduser().resolve()
        is_file = named == parent.resolve()
        return replace(self, **folders, parent=str(named) if is_file else self.parent)

    def to_yaml(self) -> str:
        """Return the text of a config file."""
        values = _plain(dataclasses.asdict(self))
        text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        return text

    @classmethod
    def from_yaml(cls, text: str, source: str = "the config") -> RunConfig:
        """Read the text of a config file; what is left out has its default.

        Parameters
        ----------
        text : str
        source : str
            What to call it in errors.

        Raises
        ------
        ValueError
            If it is no YAML, a key is unknown or missing, or a value cannot be.
        """
        try:
            values = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"{source} is no YAML that we can read: {error}") from error
        if not isinstance(values, dict):
            raise ValueError(
                f"{source} must hold keys with values, such as `name: my-cells`, got "
                f"{type(values).__name__}"
            )
        try:
            return _build(cls, values, "")
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error

    @classmethod
    def read(cls, path: Path) -> RunConfig:
        """Read a config file.

        Raises
        ------
        DatasetError
            If there is no such file.
        ValueError
            As in :meth:`from_yaml`.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise DatasetError(
                f"cannot read the config {path}: {error.strerror}; name a file that "
                "`sam-plugins train` wrote, or one like it"
            ) from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is no text: name a YAML file") from error
        return cls.from_yaml(text, str(path))

    def write(self, path: Path) -> None:
        """Write a config file.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        try:
            write_bytes(path, self.to_yaml().encode())
        except OutputError as error:
            raise OutputError(f"{error} (the config of the run)") from error


def _plain(value: object) -> object:
    """Return lists for tuples, which YAML does not know."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value


def _build(part: type[T], values: Mapping[str, Any], prefix: str) -> T:
    """Build a dataclass of plain values, each checked against its type."""
    assert dataclasses.is_dataclass(part)
    known = {spec.name: spec for spec in dataclasses.fields(part)}
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; do you mean {prefix}{near[0]}?" if near else f"; there is {', '.join(known)}"
            raise ValueError(f"unknown key {prefix}{key}{hint}")
    missing = [
        prefix + name
        for name, spec in known.items()
        if name not in values
        and spec.default is dataclasses.MISSING
        and spec.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"missing: {', '.join(missing)}")
    hints = typing.get_type_hints(part)
    return part(**{key: _value(values[key], hints[key], prefix + key) for key in values})


def _value(value: object, kind: Any, name: str) -> Any:  # noqa: ANN401
    """Return a value of a type, or refuse it."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in {types.UnionType, typing.Union}:
        if value is None and type(None) in inner:
            return None
        (kind,) = [one for one in inner if one is not type(None)]
        return _value(value, kind, name)
    if origin is typing.Literal:
        if value not in inner:
            raise ValueError(f"{name} must be one of {', '.join(map(str, inner))}, got {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{name} must be a list, got {value!r}")
        return tuple(_value(one, inner[0], f"{name}[{index}]") for index, one in enumerate(value))
    if dataclasses.is_dataclass(kind):
        assert isinstance(kind, type)
        return _build(kind, _mapping(value, kind, name), f"{name}.")
    return _plain_value(value, kind, name)


def _mapping(value: object, kind: type, name: str) -> Mapping[str, Any]:
    """Return the values of a part; crop sizes may be given by position."""
    if kind is CropSize and not isinstance(value, Mapping):
        names = [one.name for one in dataclasses.fields(CropSize)]
        if not isinstance(value, list) or len(value) != len(names):
            raise ValueError(f"{name} must be [{', '.join(names)}], got {value!r}")
        return dict(zip(names, value, strict=True))
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must hold keys with values, got {value!r}")
    return value


def _plain_value(value: object, kind: type, name: str) -> object:
    """Return a text, a number or a truth value."""
    if kind is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            return float(value)  # YAML 1.1 takes 1e-4 for a text.
    if type(value) is not kind:
        raise ValueError(f"{name} must be of type {kind.__name__}, got {value!r}")
    return value
