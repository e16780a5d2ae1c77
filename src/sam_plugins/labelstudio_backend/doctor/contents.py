"""Whether a project's pictures can be read, and whether its labelling config fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sam_plugins.errors import SamPluginsError
from sam_plugins.labelstudio_backend.client import LabelStudioClient
from sam_plugins.labelstudio_backend.config_check import check_config, explain_learning
from sam_plugins.labelstudio_backend.doctor.findings import Finding, bad, good
from sam_plugins.labelstudio_backend.images import PictureFiles, Source, decode_rgb
from sam_plugins.labelstudio_backend.label_config import LEARNED, SHAPES, read_config
from sam_plugins.labelstudio_backend.settings import Settings

_TASKS = 3
_GET_CLIP = (
    "pip install 'sam-plugins[text]', put a CLIP into a folder as docs/how-to/text-prompts.md "
    "says, name the folder in SAM_PLUGINS_LS_TEXT_MODEL, and start the backend again"
)


def examine_config(project: Mapping[str, Any], output: str) -> Iterator[Finding]:
    """Yield whether prompts of a labelling config can be answered.

    Parameters
    ----------
    project : mapping
        As the API tells it.
    output : str
        The shape of answers in the settings.
    """
    topic = f"labelling config of project {project['id']}"
    try:
        report = check_config(str(project.get("label_config") or ""), output=output)
    except (SamPluginsError, ValueError) as error:
        yield bad(topic, str(error), "mend it in the project's settings, under Labeling Interface")
        return
    for problem in report.problems:
        yield bad(topic, problem, "change it in the project's settings, under Labeling Interface")
    if not report.problems:
        yield good(topic, "; ".join(report.means) or "everything fits")
    yield from _unlearned(project)


def _unlearned(project: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield which pictures are answered, while nothing is learned from what people submit."""
    config = read_config(str(project.get("label_config") or ""))
    for image in config.images:
        if any(config.of(image.name, *SHAPES)) and not any(config.of(image.name, *LEARNED)):
            told, _, cure = explain_learning(config, image.name).partition("; ")
            yield Finding(
                f"learning of project {project['id']}", is_ok=True, message=told, cure=cure
            )


def examine_words(settings: Settings, project: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield whether texts that people type can be understood.

    Parameters
    ----------
    settings : Settings
    project : mapping
        As the API tells it.
    """
    topic = f"words of project {project['id']}"
    try:
        config = read_config(str(project.get("label_config") or ""))
    except (SamPluginsError, ValueError):
        return  # Told by the labelling config.
    if not any(one.kind == "textarea" and config.takes_words(one.name) for one in config.controls):
        return
    name = settings.text_model
    if not name:
        yield Finding(
            topic,
            is_ok=True,
            message="'all' and the labels of accepted regions are understood, and no other words: "
            "no CLIP is set",
            cure=_GET_CLIP,
        )
        return
    from sam_plugins.model.inference.clip import load_clip

    try:
        load_clip(name, device="cpu")
    except SamPluginsError as error:
        yield bad(
            topic, f"the CLIP of SAM_PLUGINS_LS_TEXT_MODEL cannot be used: {error}", _GET_CLIP
        )
    else:
        yield good(topic, f"words are understood by {name}")


def examine_pictures(
    settings: Settings, client: LabelStudioClient, project: Mapping[str, Any]
) -> Iterator[Finding]:
    """Yield whether the first pictures of a project can be read, fetched as for a click.

    Parameters
    ----------
    settings : Settings
    client : LabelStudioClient
    project : mapping
        As the API tells it.

    Raises
    ------
    LabelStudioError
        If Label Studio does not answer.
    """
    topic = f"pictures of project {project['id']}"
    try:
        config = read_config(str(project.get("label_config") or ""))
    except (SamPluginsError, ValueError):
        return  # Told by the labelling config.
    query = {"project": project["id"], "page_size": _TASKS, "fields": "all"}
    tasks = client.get("/api/tasks/", **query).get("tasks") or []
    if not tasks:
        yield good(topic, "there is no task yet")
        return
    files = PictureFiles(settings)
    readable = 0
    for task in tasks:
        try:
            images = config.for_data(task["data"]).images
        except ValueError as error:
            yield bad(topic, f"task {task['id']}: {error}", "mend the task's data")
            continue
        for image in images:
            named = image.named_in(task["data"])
            for url in named if isinstance(named, list) else [named]:
                try:
                    if not isinstance(url, str) or not url:
                        raise SamPluginsError(f"its data name no picture under {image.key!r}")
                    found = files.get(Source(url, str(task["id"]), client))
                    decode_rgb(found.content, settings)
                    readable += 1
                except SamPluginsError as error:
                    cure = "open the task in Label Studio: is the picture shown there?"
                    yield bad(topic, f"task {task['id']}: {error}", cure)
    if readable:
        yield good(topic, f"{readable} of the first {len(tasks)} tasks' pictures can be read")
