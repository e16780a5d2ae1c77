"""The body of a predict request, checked: what is no request of Label Studio is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sam_plugins.labelstudio_backend.label_config import ImageTag
from sam_plugins.labelstudio_backend.problems import PayloadError

Item = Mapping[str, Any]

_LONGEST_KEY = 200


@dataclass(frozen=True)
class Task:
    """A task.

    Parameters
    ----------
    id : str
        Empty where none was sent.
    data : mapping
        Raw, addresses of pictures among it.
    drafts, annotations : sequence of mapping
        What people have drawn so far.
    """

    id: str
    data: Mapping[str, Any]
    drafts: Sequence[Item] = ()
    annotations: Sequence[Item] = ()

    @property
    def user(self) -> str:
        """Who asks, as far as a draft tells."""
        return next((str(draft["user"]) for draft in self.drafts if draft.get("user")), "")

    def urls(self, image: ImageTag) -> list[str]:
        """Return the addresses of a picture's pages.

        Raises
        ------
        PayloadError
            If the data holds none.
        """
        value = image.named_in(self.data)
        pages = value if isinstance(value, list) else [value]
        if not pages or not all(isinstance(page, str) and page for page in pages):
            raise PayloadError(
                f"data[{image.key!r}] must be the address of a picture, got "
                f"{type(value).__name__}; the labelling config reads ${image.key}"
            )
        return pages

    def drawn(self) -> list[Item]:
        """Return every item of drafts and annotations."""
        return [
            item
            for source in (*self.drafts, *self.annotations)
            for item in source.get("result") or ()
            if isinstance(item, Mapping)
        ]


@dataclass(frozen=True)
class PredictRequest:
    """What Label Studio asks for.

    Parameters
    ----------
    project : str
        ``"ID.TIME"``.
    tasks : sequence of Task
    config : str
        The labelling config; empty where none was sent.
    prompts : sequence of mapping, optional
        Items that somebody has just drawn; None where a batch is asked for.
    """

    project: str
    tasks: Sequence[Task]
    config: str
    prompts: Sequence[Item] | None = None


def read_request(payload: Mapping[str, Any]) -> PredictRequest:
    """Return a checked request.

    Raises
    ------
    PayloadError
        With what was expected and what came.
    """
    tasks = payload.get("tasks")
    if not isinstance(tasks, list):
        raise PayloadError(f"tasks must be a list of tasks, got {_kind(tasks)}")
    params = payload.get("params")
    if params is None:
        params = {}
    if not isinstance(params, Mapping):
        raise PayloadError(f"params must be an object, got {_kind(params)}")
    config = payload.get("label_config") or ""
    if not isinstance(config, str):
        raise PayloadError(f"label_config must be a text, got {_kind(config)}")
    prompts = _prompts(params.get("context"))
    read = [_task(task, f"tasks[{index}]") for index, task in enumerate(tasks)]
    if prompts is not None and len(read) != 1:
        raise PayloadError(f"an interactive request must hold one task, got {len(read)}")
    return PredictRequest(read_project(payload.get("project")), read, config, prompts)


def read_project(project: Any) -> str:  # noqa: ANN401
    """Return the key of a project.

    Raises
    ------
    PayloadError
        If it is neither a text nor a number.
    """
    if project is None:
        return ""
    if isinstance(project, bool) or not isinstance(project, str | int | float):
        raise PayloadError(f"project must be a text such as '1.1795421754', got {_kind(project)}")
    return str(project)[:_LONGEST_KEY]


def _prompts(context: Any) -> Sequence[Item] | None:  # noqa: ANN401
    """Return what was drawn, or None for a batch."""
    if context is None:
        return None
    if not isinstance(context, Mapping):
        raise PayloadError(f"params.context must be an object, got {_kind(context)}")
    result = context.get("result")
    return _items([] if result is None else result, "params.context.result")


def _items(result: Any, where: str) -> Sequence[Item]:  # noqa: ANN401
    """Return a list of items."""
    if not isinstance(result, list) or not all(isinstance(item, Mapping) for item in result):
        raise PayloadError(f"{where} must be a list of objects, got {_kind(result)}")
    return result


def _task(task: Any, where: str) -> Task:  # noqa: ANN401
    """Return a checked task."""
    if not isinstance(task, Mapping):
        raise PayloadError(f"{where} must be an object, got {_kind(task)}")
    data = task.get("data")
    if not isinstance(data, Mapping):
        raise PayloadError(f"{where}.data must be an object, got {_kind(data)}")
    number = task.get("id")
    if number is not None and not isinstance(number, str | int):
        raise PayloadError(f"{where}.id must be a number, got {_kind(number)}")
    drafts, annotations = (
        [one for one in _sequence(task.get(key)) if isinstance(one, Mapping)]
        for key in ("drafts", "annotations")
    )
    drafts, annotations = (
        [one for one in group if isinstance(one.get("result", []), list)]
        for group in (drafts, annotations)
    )
    return Task("" if number is None else str(number), data, drafts, annotations)


def _sequence(value: Any) -> list[Any]:  # noqa: ANN401
    """Return a list, empty for what is none: what is not needed shall not spoil an answer."""
    return value if isinstance(value, list) else []


def _kind(value: Any) -> str:  # noqa: ANN401
    """Return what something is, in JSON's words."""
    names = {"dict": "an object", "list": "a list", "str": "a text", "NoneType": "nothing"}
    return names.get(type(value).__name__, f"a {type(value).__name__}")
