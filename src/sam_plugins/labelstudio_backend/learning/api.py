"""Label Studio's API through its own SDK: time-outs, tokens that expire, errors in words."""

from __future__ import annotations

import functools
import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from sam_plugins.errors import LabelStudioError, MissingExtraError, how_to_install

if TYPE_CHECKING:
    import httpx
    from label_studio_sdk.client import LabelStudio
    from label_studio_sdk.types.all_roles_project_list import AllRolesProjectList
    from label_studio_sdk.types.lse_user_api import LseUserApi
    from label_studio_sdk.types.role_based_task import RoleBasedTask

T = TypeVar("T")

TIMEOUT_SECONDS = 30.0
_PAGE_SIZE = 50
_ANNOTATED = json.dumps(
    {
        "filters": {
            "conjunction": "and",
            "items": [
                {
                    "filter": "filter:tasks:total_annotations",
                    "operator": "greater",
                    "type": "Number",
                    "value": 0,
                },
            ],
        },
        "ordering": ["tasks:id"],
    }
)


class Api:
    """One Label Studio server, as one user.

    Parameters
    ----------
    url : str
        Of the server.
    token : str
        A legacy token, or a personal access token, which is exchanged for access tokens that live
        five minutes, anew as often as that takes.
    timeout : float
        Seconds for one request.
    """

    def __init__(self, url: str, token: str, *, timeout: float = TIMEOUT_SECONDS) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._timeout = timeout
        self._lock = threading.Lock()
        self._client: LabelStudio | None = None
        self._http: httpx.Client | None = None

    def __repr__(self) -> str:
        """Return the server; the token stays secret."""
        return f"Api({self.url!r})"

    def whoami(self) -> str:
        """Return the e-mail address of the user whose token it is."""
        return str(self.ask(lambda client: client.users.whoami()).email)

    def project(self, number: int) -> dict[str, Any]:
        """Return a project: its id, title, time of making and labelling interface."""
        found = self.ask(lambda client: client.projects.get(id=number))
        return {
            "id": found.id,
            "title": found.title,
            "created_at": found.created_at,
            "label_config": found.label_config,
        }

    def projects(self) -> list[dict[str, Any]]:
        """Return all projects that the user sees."""
        found = self.ask(_all_projects)
        return [
            {
                "id": one.id,
                "title": one.title,
                "created_at": one.created_at,
                "label_config": one.label_config,
            }
            for one in found
        ]

    def annotated_tasks(self, project: int) -> Iterator[dict[str, Any]]:
        """Return the tasks with annotations, with all of these; ``data`` as they were imported."""
        for page in itertools.count(1):
            items = self.ask(functools.partial(_page_of_tasks, project=project, page=page))
            for one in items:
                yield {"id": one.id, "data": one.data, "annotations": one.annotations or []}
            if len(items) < _PAGE_SIZE:
                return

    def has_annotation(self, number: int) -> bool:
        """Return whether an annotation exists."""
        from label_studio_sdk.core.api_error import ApiError

        def get(client: LabelStudio) -> bool:
            try:
                client.annotations.get(id=number)
            except ApiError as error:
                if error.status_code == 404:
                    return False
                raise
            return True

        return self.ask(get)

    def emails(self) -> dict[int, str]:
        """Return the e-mail addresses of the users, by their numbers."""
        found = self.ask(_all_users)
        return {one.id: one.email for one in found if one.id is not None and one.email}

    def ask(self, question: Callable[[LabelStudio], T]) -> T:
        """Ask through the SDK's client; a token that is refused in mid-run is fetched anew once.

        Raises
        ------
        LabelStudioError
            If the server cannot be reached, takes too long, or refuses; with the remedy.
        """
        import httpx
        from label_studio_sdk.core.api_error import ApiError

        for is_last in (False, True):
            try:
                return question(self._connected())
            except ApiError as error:
                if error.status_code == 401 and not is_last and self._token.count(".") == 2:
                    self._forget()
                    continue
                refusal = explained(self.url, error.status_code, error.body)
                raise LabelStudioError(refusal, error.status_code) from error
            except httpx.TimeoutException as error:
                raise LabelStudioError(
                    f"Label Studio at {self.url} did not answer within {self._timeout:g} s; it may "
                    "be overloaded; it is asked again later"
                ) from error
            except httpx.HTTPError as error:
                raise LabelStudioError(
                    f"cannot reach Label Studio at {self.url} ({error}); check that it runs and "
                    "that the address is right as seen from this machine"
                ) from error
        raise AssertionError("the last try returns or raises")

    def close(self) -> None:
        """Let go of connections."""
        self._forget()

    def _connected(self) -> LabelStudio:
        """Return the SDK's client."""
        try:
            import httpx
            from label_studio_sdk.client import LabelStudio
        except ImportError as error:
            raise MissingExtraError(
                "talking with Label Studio needs the package label-studio-sdk, which is not "
                f"installed; {how_to_install('labelstudio')}"
            ) from error
        with self._lock:
            if self._client is None:
                self._http = httpx.Client(timeout=self._timeout, follow_redirects=False)
                self._client = LabelStudio(  # type: ignore[no-untyped-call]
                    base_url=self.url, api_key=self._token, httpx_client=self._http
                )
            return self._client

    def _forget(self) -> None:
        """Begin with a new client next time, which fetches a new access token."""
        with self._lock:
            if self._http is not None:
                self._http.close()
            self._client = self._http = None


def _page_of_tasks(client: LabelStudio, *, project: int, page: int) -> list[RoleBasedTask]:
    """Return one page of the tasks that have annotations."""
    found: Any = client.tasks.list(
        project=project,
        fields="all",
        query=_ANNOTATED,
        page=page,
        page_size=_PAGE_SIZE,
        resolve_uri=False,
    )
    return list(found.items or [])


def _all_projects(client: LabelStudio) -> list[AllRolesProjectList]:
    """Return the projects, page by page."""
    return list(client.projects.list())


def _all_users(client: LabelStudio) -> list[LseUserApi]:
    """Return the users that one may see."""
    return list(client.users.list())


def explained(url: str, status: int | None, body: object) -> str:
    """Return what a refusal of Label Studio's means, and what to do."""
    detail = body.get("detail") if isinstance(body, Mapping) else None
    said = f" ({detail})" if detail else ""
    if status == 401:
        return (
            f"Label Studio at {url} refuses the token{said}: make a personal access token under "
            "Account & Settings, or allow legacy tokens under Organization, API Tokens Settings, "
            "and give it to the backend as SAM_PLUGINS_LS_API_KEY"
        )
    if status == 403:
        return (
            f"Label Studio at {url} does not let this user do that{said}: use the token of an "
            "administrator or of the project's owner"
        )
    if status == 404:
        return f"Label Studio at {url} has no such thing{said}; was it deleted?"
    return f"Label Studio at {url} answered {status}{said}; see its log"
