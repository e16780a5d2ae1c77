"""Everything that can be set about the backend; the one place of it that reads the environment."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from sam_plugins.model.cluster.choice import NONE, parse_scheduler
from sam_plugins.model.weights.paths import home_directory
from sam_plugins.model.weights.registry import DEFAULT_MODEL

Output = Literal["auto", "brush", "bitmask", "polygon", "rectangle", "ellipse"]

_MIB = 2**20


class Settings(BaseSettings):
    """Settings of one backend, from arguments or ``SAM_PLUGINS_LS_...`` of the environment.

    Parameters
    ----------
    url : str
        Where Label Studio is, as this backend reaches it, such as ``http://label-studio:8080``.
    api_key : str
        A token of Label Studio: the legacy one, or a personal access token, which is exchanged for
        short-lived ones as needed.
    trust_setup : bool
        Where ``url`` or ``api_key`` is missing, use what Label Studio sends when it connects.
    url_map : mapping of str to str
        Addresses in what Label Studio says, and where they are for this backend, such as
        ``{"http://localhost:8080": "http://label-studio:8080"}``.
    model : str
        Name, file, or ``name@version`` of the model for every project that has no other.
    device : str, optional
        As :func:`~sam_plugins.load_model` takes it.
    prefix : str
        Path below which the backend answers, such as ``/sam``, besides without it: for a proxy that
        hands the whole path on.
    user, password : str
        What Label Studio has to send (basic authentication); nobody is asked where both are empty.
    webhook_secret : str
        Accepts webhooks without a password at ``/webhook/SECRET``: Label Studio sends none with
        events of data.
    host_names : tuple of str
        Names under which browsers may open the backend where no password is set, besides numbers,
        ``localhost``, the name of the machine, and those of ``url`` and ``url_map``. What does not
        look like a browser, such as Label Studio, uses any name.
    folder : Path
        Where embeddings, pictures and the queue of events are kept.
    allowed_hosts : tuple of str
        Names or addresses of hosts whose private addresses may be asked for pictures. The host of
        ``url`` always may.
    max_image_mib, max_image_megapixels, image_seconds : float
        Limits of one picture: size of the file, pixels when decoded, time to fetch it.
    fresh_seconds : float
        For how long a picture from the web or a storage is not asked for again. Uploads never
        change and are not asked for again at all.
    memory_mib, disk_mib : int
        Limits of kept embeddings.
    images_mib : int
        Limit of kept pictures on the disk.
    max_body_mib : float
        Limit of a request.
    batch_seconds : float
        After how long a batch answers what is ready; the rest is posted in the background. Label
        Studio waits for 100.
    open_seconds : float
        The same when a single task is asked for, as happens when somebody opens it.
    prewarm_next : int
        How many of the following tasks of the project are encoded when one is opened.
    fuse_seconds : float
        For how long points and boxes of one object may be told apart and still be taken together; 0
        takes each alone.
    refine : bool
        Whether negative points within an accepted region of the model correct that region.
    output : {"auto", "brush", "bitmask", "polygon", "rectangle", "ellipse"}
        What regions are answered; by default the first of these that the labelling config has.
    polygon_tolerance : float
        How far, in pixels, a polygon may lie from the mask's outline.
    min_area : int
        Pieces and holes of fewer pixels are left out of polygons.
    automatic : bool
        Whether tasks are answered with all objects of their pictures, or only prepared.
    refresh_predictions : bool
        Whether predictions that an earlier model made are made anew when another one is in use.
    auto_label : str
        Label of the objects that the model finds by itself, where the config has several: by
        default the one with ``selected="true"``, or the first.
    text_model : str
        CLIP for phrases, as :func:`~sam_plugins.load_clip` takes it; empty for none.
    threads : int
        Threads of the server.
    scheduler : str
        Where batches and trainings are worked on: ``none`` for this machine, ``local`` for
        processes of it, or a Dask scheduler, as
        :func:`~sam_plugins.model.cluster.choice.parse_scheduler` takes it.
    held_out : float
        Share of the labelled pictures that models are only measured on.
    complete : bool
        Whether people label every visible object of a task that they submit; if not, what has no
        label is not taken for background.
    train_every : int
        Annotations after which a training begins by itself; 0 for never.
    train_at : str
        Time of day, ``"02:30"``, at which projects with new annotations are trained.
    train_method : {"full", "decoder", "lora"}
        What learns, see :class:`~sam_plugins.model.engine.tuning_options.FineTuningOptions`.
    train_steps, train_rounds : int
        Of a training, and how often it is measured.
    train_threads : int
        Of a training on the CPU. More than there are idle cores make it slower, not quicker.
    train_niceness : int
        How far a training steps back behind everything else on the machine.
    reconcile_minutes : float
        How often annotations are compared with what Label Studio's API says.
    log_format : {"json", "text"}
        How the log is written.
    """

    model_config = SettingsConfigDict(env_prefix="SAM_PLUGINS_LS_", extra="ignore", frozen=True)

    url: str = ""
    api_key: SecretStr = SecretStr("")
    trust_setup: bool = False
    url_map: dict[str, str] = Field(default_factory=dict)
    model: str = Field(default=DEFAULT_MODEL, min_length=1)
    device: str | None = None
    prefix: str = ""
    user: str = ""
    password: SecretStr = SecretStr("")
    webhook_secret: SecretStr = SecretStr("")
    host_names: Annotated[tuple[str, ...], NoDecode] = ()
    folder: Path = Field(default_factory=lambda: home_directory() / "labelstudio")
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    max_image_mib: float = Field(default=256, gt=0)
    max_image_megapixels: float = Field(default=150, gt=0)
    image_seconds: float = Field(default=20, gt=0)
    fresh_seconds: float = Field(default=60, ge=0)
    memory_mib: int = Field(default=512, ge=0)
    disk_mib: int = Field(default=4096, ge=0)
    images_mib: int = Field(default=1024, ge=0)
    max_body_mib: float = Field(default=128, gt=0)
    batch_seconds: float = Field(default=60, ge=0, le=90)
    open_seconds: float = Field(default=5, ge=0, le=90)
    prewarm_next: int = Field(default=2, ge=0, le=100)
    fuse_seconds: float = Field(default=120, ge=0)
    refine: bool = True
    output: Output = "auto"
    polygon_tolerance: float = Field(default=1.0, ge=0)
    min_area: int = Field(default=16, ge=0)
    automatic: bool = True
    refresh_predictions: bool = True
    auto_label: str = ""
    text_model: str = ""
    threads: int = Field(default=16, ge=1, le=256)
    scheduler: str = NONE
    held_out: float = Field(default=0.25, gt=0, lt=1)
    complete: bool = False
    train_every: int = Field(default=0, ge=0)
    train_at: str = ""
    train_method: Literal["full", "decoder", "lora"] = "full"
    train_steps: int = Field(default=300, ge=1)
    train_rounds: int = Field(default=6, ge=1)
    train_threads: int = Field(default_factory=lambda: max(1, (os.cpu_count() or 2) // 2), ge=1)
    train_niceness: int = Field(default=10, ge=0, le=19)
    reconcile_minutes: float = Field(default=60, gt=0)
    log_format: Literal["json", "text"] = "json"

    @field_validator("allowed_hosts", "host_names", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:  # noqa: ANN401
        """Take ``host1, host2`` from the environment."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("host_names")
    @classmethod
    def _plain_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Take addresses for the names in them, and refuse what can be none."""
        names = tuple(host_name(one) for one in value)
        for one, name in zip(value, names, strict=True):
            if not name or "*" in name:
                raise ValueError(
                    f"must be names such as sam.example.org, separated by commas, got {one!r}; "
                    "where any name shall do, set a password in place of names"
                )
        return names

    @field_validator("url")
    @classmethod
    def _plain_url(cls, value: str) -> str:
        """Refuse what is no address, and drop the last slash."""
        if value and not value.startswith(("http://", "https://")):
            raise ValueError(
                f"must start with http:// or https://, got {value!r}; say where Label Studio is, "
                "such as http://localhost:8080"
            )
        return value.rstrip("/")

    @field_validator("prefix")
    @classmethod
    def _plain_prefix(cls, value: str) -> str:
        """Refuse what is no path, and drop the last slash."""
        if re.fullmatch(r"(/[\w.~-]+)*/?", value) is None:
            raise ValueError(
                "must be the path below which a proxy shows the backend, such as /sam, got "
                f"{value!r}"
            )
        return value.rstrip("/")

    @field_validator("train_at")
    @classmethod
    def _time_of_day(cls, value: str) -> str:
        """Refuse what is no time of day."""
        if value and re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value) is None:
            raise ValueError(f"must be a time of day such as 02:30, or nothing, got {value!r}")
        return value

    @field_validator("scheduler")
    @classmethod
    def _known_scheduler(cls, value: str) -> str:
        """Refuse what is no scheduler; an empty one is none."""
        return parse_scheduler(value or NONE)

    def for_workers(self) -> Settings:
        """Return the settings as workers of a cluster may see them: no secrets, a whole path."""
        secrets = dict.fromkeys(("api_key", "password", "webhook_secret"), SecretStr(""))
        return self.model_copy(update={**secrets, "folder": self.folder.absolute()})

    @property
    def asks_password(self) -> bool:
        """Whether requests have to authenticate."""
        return bool(self.user or self.password.get_secret_value())

    @property
    def max_image_bytes(self) -> int:
        """Limit of a picture's file."""
        return int(self.max_image_mib * _MIB)

    @property
    def max_body_bytes(self) -> int:
        """Limit of a request."""
        return int(self.max_body_mib * _MIB)


def wrong_value(error: ValidationError) -> tuple[str, str]:
    """Return the name of the first setting that is wrong, and what it must be.

    Examples
    --------
    >>> try:
    ...     Settings(threads=0)
    ... except ValidationError as error:
    ...     print(*wrong_value(error))
    threads must be greater than or equal to 1, got 0
    """
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"]))
    said = first["msg"].removeprefix("Value error, ")
    if said == first["msg"]:  # pydantic's own words: "Input should be ..."
        said = re.sub(r"^(?:An? )?\w+ should ", "must ", said)
        said = f"{said.partition(', unable to ')[0]}, got {first['input']!r:.100}"
    return name, said


def host_name(text: str) -> str:
    """Return the host of an address or of a ``Host`` header, in small letters; empty if none.

    Examples
    --------
    >>> host_name("Sam.lab:9090"), host_name("http://sam.lab./x"), host_name("[::1]:9090")
    ('sam.lab', 'sam.lab', '::1')
    """
    try:
        return (urlsplit(text if "//" in text else f"//{text}").hostname or "").rstrip(".")
    except ValueError:
        return ""
