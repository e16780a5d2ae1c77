"""The backend inside ``label-studio-ml`` 2.x, for teams that host their models with that package.

PyPI has version 1.0.9, with another interface; 2.x is installed from its repository. Nothing else
here imports it: the server of this package speaks the protocol by itself. Tried with its commit
d02cedf (August 2026), which passes on no ANNOTATIONS_DELETED: those are noticed when everything is
compared with Label Studio, once an hour.

>>> from sam_plugins.labelstudio_backend.hosting import host_app  # doctest: +SKIP
>>> app = host_app()  # init_app of label_studio_ml.api, with host_class() # doctest: +SKIP
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sam_plugins.errors import MissingExtraError
from sam_plugins.labelstudio_backend.browsers import guarded
from sam_plugins.labelstudio_backend.learning.keys import key_of
from sam_plugins.labelstudio_backend.protocols import Learning
from sam_plugins.labelstudio_backend.service import Service
from sam_plugins.labelstudio_backend.settings import Settings

if TYPE_CHECKING:
    from flask import Flask

_NEEDED = (
    "hosting inside label-studio-ml needs its version 2, which PyPI does not have; pip install "
    "git+https://github.com/HumanSignal/label-studio-ml-backend.git, or run `sam-plugins "
    "labelstudio serve`, which needs none of it"
)


def host_app(
    service: Service | None = None,
    *,
    learning: Learning | None = None,
    **options: Any,  # noqa: ANN401
) -> Flask:
    """Return label-studio-ml's application around :func:`host_class`.

    It looks at no origin by itself, so that any page in a browser could ask it. Here those of other
    sites are refused as they are by our own server, see :func:`~.browsers.why_refused`.

    It asks for a password where label-studio-ml has one, by ``basic_auth_user`` and
    ``basic_auth_pass`` or by ``BASIC_AUTH_USER`` and ``BASIC_AUTH_PASS``, and else for the one of
    the settings.

    Parameters
    ----------
    service, learning
        As for :func:`host_class`.
    **options
        For ``label_studio_ml.api.init_app``, such as ``basic_auth_user`` and ``basic_auth_pass``.

    Raises
    ------
    MissingExtraError
        If label-studio-ml is missing, or of a version before 2.
    ValueError
        If only one of user and password is set: label-studio-ml would ask for none.
    """
    init_app = _imported()[0]
    shared = service or Service(Settings())
    auth = basic_auth_of(options, shared.settings)
    model = host_class(shared, learning=learning)
    app: Flask = init_app(model_class=model, **{**options, **auth})
    guard = guarded(app.wsgi_app, shared.settings, asks_password=bool(auth))
    app.wsgi_app = guard  # type: ignore[assignment,method-assign]
    return app


def basic_auth_of(options: Mapping[str, Any], settings: Settings) -> dict[str, str]:
    """Return the ``basic_auth_user`` and ``basic_auth_pass`` to host with; nothing for neither.

    Parameters
    ----------
    options : mapping
        Of :func:`host_app`, which come first; then label-studio-ml's own variables.
    settings : Settings
        With the user and password for where label-studio-ml has not both.

    Raises
    ------
    ValueError
        If the settings have to tell them, and hold only one of the two.
    """
    variables = {"basic_auth_user": "BASIC_AUTH_USER", "basic_auth_pass": "BASIC_AUTH_PASS"}
    given = {
        option: str(options.get(option) or os.environ.get(variable, ""))
        for option, variable in variables.items()
    }
    if all(given.values()):
        return given
    if not settings.asks_password:
        return {}
    user, password = settings.user, settings.password.get_secret_value()
    if not (user and password):
        raise ValueError(
            "label-studio-ml asks for no password unless a user is set too: set both "
            "SAM_PLUGINS_LS_USER and SAM_PLUGINS_LS_PASSWORD, got only one of them"
        )
    return {"basic_auth_user": user, "basic_auth_pass": password}


def host_class(service: Service | None = None, *, learning: Learning | None = None) -> type:
    """Return a class that ``label_studio_ml.api.init_app`` takes.

    Parameters
    ----------
    service : Service, optional
        Made of the environment by default.
    learning : Learning, optional
        What takes events in.

    Raises
    ------
    MissingExtraError
        If label-studio-ml is missing, or of a version before 2.
    """
    _, LabelStudioMLBase, ModelResponse = _imported()
    shared = service or Service(Settings())

    class SamPluginsModel(LabelStudioMLBase):  # type: ignore[misc,valid-type]
        """Hands everything to the service; one is made for each request."""

        @property
        def key(self) -> str:
            """The project's key; label-studio-ml cuts the time off that it was made."""
            number = str(self.project_id or "")
            known = [one.key for one in shared.projects.all() if one.id == number]
            return max(known, key=len, default=number)

        def setup(self) -> None:
            """Take the config in, and name the version of the model."""
            told = {
                "project": self.key,
                "schema": self.label_config or "",
                "extra_params": self.get("extra_params"),
            }
            self.set("model_version", shared.setup(told)["model_version"])

        def set_extra_params(self, extra_params: Any) -> None:  # noqa: ANN401
            """Keep the project's settings; label-studio-ml keeps nothing but texts."""
            text = extra_params if isinstance(extra_params, str) else json.dumps(extra_params)
            self.set("extra_params", text)
            self.setup()

        def predict(
            self,
            tasks: list[dict[str, Any]],
            context: dict[str, Any] | None = None,
            **kwargs: Any,  # noqa: ANN401
        ) -> Any:  # noqa: ANN401
            """Answer clicks and batches."""
            del kwargs
            answer = shared.predict(
                {
                    "tasks": tasks,
                    "project": self.key,
                    "label_config": self.label_config,
                    "params": {"context": context},
                }
            )
            return ModelResponse(
                predictions=list(answer.results), model_version=answer.model_version
            )

        def fit(self, event: str, data: dict[str, Any], **kwargs: Any) -> None:  # noqa: ANN401
            """Take an event in, and the project's whole key with it."""
            del kwargs
            shared.projects.get(key_of(data.get("project")) or self.key)
            if learning is not None:
                learning.on_webhook({"action": event, **data})

    return SamPluginsModel


def _imported() -> tuple[Any, Any, Any]:
    """Return what is needed of label-studio-ml 2.x."""
    try:
        from label_studio_ml.api import init_app
        from label_studio_ml.model import LabelStudioMLBase
        from label_studio_ml.response import ModelResponse
    except ImportError as error:
        raise MissingExtraError(_NEEDED) from error
    return init_app, LabelStudioMLBase, ModelResponse
