"""The backend inside ``label-studio-ml`` 2.x, for teams that host their models with that package.

PyPI has version 1.0.9, with another interface; 2.x is installed from its repository. Nothing else
here imports it: the server of this package speaks the protocol by itself.

>>> from sam_plugins.labelstudio_backend.hosting import host_class  # doctest: +SKIP
>>> app = init_app(model_class=host_class())  # of label_studio_ml.api # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any

from sam_plugins.errors import MissingExtraError
from sam_plugins.labelstudio_backend.protocols import Learning
from sam_plugins.labelstudio_backend.service import Service
from sam_plugins.labelstudio_backend.settings import Settings

_NEEDED = (
    "hosting inside label-studio-ml needs its version 2, which PyPI does not have; pip install "
    "git+https://github.com/HumanSignal/label-studio-ml-backend.git, or run `sam-plugins "
    "labelstudio serve`, which needs none of it"
)


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
    try:
        from label_studio_ml.model import LabelStudioMLBase
        from label_studio_ml.response import ModelResponse
    except ImportError as error:
        raise MissingExtraError(_NEEDED) from error
    shared = service or Service(Settings())

    class SamPluginsModel(LabelStudioMLBase):  # type: ignore[misc]
        """Hands everything to the service."""

        def setup(self) -> None:
            """Name the version of the model."""
            self.set("model_version", shared.model_version(self.project_id or ""))

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
                    "project": self.project_id,
                    "label_config": self.label_config,
                    "params": {"context": context},
                }
            )
            return ModelResponse(predictions=list(answer.results))

        def fit(self, event: str, data: dict[str, Any], **kwargs: Any) -> None:  # noqa: ANN401
            """Take an event in."""
            del kwargs
            if learning is not None:
                learning.on_webhook({"action": event, **data})

    return SamPluginsModel
