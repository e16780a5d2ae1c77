"""A whole examination, in the order in which one cause hides the next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sam_plugins.errors import LabelStudioError
from sam_plugins.labelstudio_backend.client import LabelStudioClient
from sam_plugins.labelstudio_backend.doctor.connections import (
    Examined,
    Password,
    examine_connections,
)
from sam_plugins.labelstudio_backend.doctor.contents import (
    examine_config,
    examine_pictures,
    examine_words,
)
from sam_plugins.labelstudio_backend.doctor.findings import Finding, bad
from sam_plugins.labelstudio_backend.doctor.tokens import examine_server, examine_token
from sam_plugins.labelstudio_backend.settings import Settings

_NOT_FOUND = 404


def examine(
    settings: Settings,
    *,
    project: int | None = None,
    backend_url: str | None = None,
    is_repairing: bool = False,
) -> Iterator[Finding]:
    """Yield what was found, as it is found; what needs something that is broken is left out.

    Parameters
    ----------
    settings : Settings
        Of the backend; ``url`` names Label Studio.
    project : int, optional
        By default every project that has a backend, or the only one.
    backend_url : str, optional
        The backend's address as Label Studio has, or is to have it.
    is_repairing : bool
        Whether what can be mended through the API is mended.
    """
    token = settings.api_key.get_secret_value()
    for examination in (examine_server(settings.url), examine_token(settings.url, token)):
        for finding in examination:
            yield finding
            if not finding.is_ok and "only for" not in finding.message:
                return
    client = LabelStudioClient(settings.url, token)
    password = Password(settings.user, settings.password.get_secret_value())
    try:
        for chosen in _projects(client, project):
            number = int(chosen["id"])
            examined = Examined(client, number, password, is_repairing)
            yield from examine_connections(examined, backend_url)
            yield from examine_config(chosen, settings.output)
            yield from examine_words(settings, chosen)
            yield from examine_pictures(settings, client, chosen)
    except LabelStudioError as error:
        yield bad("Label Studio", str(error), "mend that and ask again")


def _projects(client: LabelStudioClient, number: int | None) -> list[dict[str, Any]]:
    """Return the projects to look at."""
    if number is not None:
        try:
            return [client.get(f"/api/projects/{number}/")]
        except LabelStudioError as error:
            if error.status != _NOT_FOUND:
                raise
            raise LabelStudioError(
                f"the token's user sees no project {number}; its number stands in its address, "
                ".../projects/NUMBER/data",
                error.status,
            ) from error
    found = list(client.projects())
    if not found:
        raise LabelStudioError("the token's user sees no project; create one, or add the user")
    # Label Studio tells of the backends of a named project only.
    chosen = [one for one in found if client.get("/api/ml", project=int(one["id"]))]
    return chosen or found[:1]
