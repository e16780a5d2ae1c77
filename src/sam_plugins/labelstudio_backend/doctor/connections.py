"""Whether a project's backend is connected as it must be, and whether events reach it."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests

from sam_plugins.errors import LabelStudioError
from sam_plugins.labelstudio_backend.client import LabelStudioClient
from sam_plugins.labelstudio_backend.doctor.findings import Finding, bad, good, repaired

PING = "PING"
"""Action of an event that only asks whether events arrive."""

_NEEDED = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED")
_SECONDS = 5.0
_CONNECTED = "CO"
_LOCAL_CURE = (
    "Label Studio refuses addresses of its own network unless told otherwise: start it with "
    "LABEL_STUDIO_ML_BLOCK_LOCAL_IP=false and LABEL_STUDIO_SSRF_PROTECTION_ENABLED=false (both: "
    "with the first alone the backend is listed, without webhook), or with "
    "LABEL_STUDIO_USE_DEFAULT_BANNED_SUBNETS=false alone"
)
_DOT_CURE = (
    "Label Studio makes no webhook for a host name without a dot, and says nothing: use localhost, "
    "a number such as 10.0.0.5, or a name with a dot (sam.internal as an alias in Docker), and "
    "connect the backend again"
)


@dataclass(frozen=True)
class Password:
    """What the backend asks for; empty where it asks for nothing."""

    user: str = ""
    password: str = ""

    @property
    def header(self) -> str:
        """The value of ``Authorization``."""
        text = f"{self.user}:{self.password}".encode()
        return f"Basic {base64.b64encode(text).decode('ascii')}"

    def __bool__(self) -> bool:
        """Return whether there is any."""
        return bool(self.user or self.password)


@dataclass(frozen=True)
class Examined:
    """What is examined, and how.

    Parameters
    ----------
    client : LabelStudioClient
    project : int
    password : Password
    is_repairing : bool
    """

    client: LabelStudioClient
    project: int
    password: Password
    is_repairing: bool = False

    @property
    def place(self) -> str:
        """The project, for people."""
        return f"project {self.project}"


def examine_connections(examined: Examined, backend_url: str | None) -> Iterator[Finding]:
    """Yield how backends of a project are connected, and their webhooks.

    Parameters
    ----------
    examined : Examined
    backend_url : str, optional
        Only this one.

    Raises
    ------
    LabelStudioError
        If Label Studio does not answer.
    """
    rows = examined.client.get("/api/ml", project=examined.project)
    wanted = None if backend_url is None else backend_url.rstrip("/")
    rows = [row for row in rows if wanted is None or str(row["url"]).rstrip("/") == wanted]
    if not rows:
        yield from _connected(examined, backend_url)
        return
    yield from _duplicates(examined, rows)
    hooks = examined.client.get("/api/webhooks/", project=examined.project)
    for url in dict.fromkeys(str(row["url"]).rstrip("/") for row in rows):
        row = next(row for row in rows if str(row["url"]).rstrip("/") == url)
        yield from _backend(examined, row)
        yield from _webhook(examined, url, hooks)


def is_dotless(url: str) -> bool:
    """Return whether Label Studio makes no webhook for an address because its name has no dot.

    Examples
    --------
    >>> is_dotless("http://sam:9090"), is_dotless("http://localhost:9090/x")
    (True, False)
    >>> is_dotless("http://[::1]:9090"), is_dotless("http://sam.internal:9090")
    (False, False)
    """
    host = urlsplit(url).hostname or ""
    return "." not in host and ":" not in host and host != "localhost"


def _connected(examined: Examined, backend_url: str | None) -> Iterator[Finding]:
    """Yield that no backend is connected; connect one where that is wanted."""
    topic = f"backend of {examined.place}"
    if backend_url is None:
        yield bad(
            topic,
            "no backend is connected",
            "add one in the project's settings under Model, with interactive preannotations on",
        )
        return
    if not examined.is_repairing:
        cure = f"add {backend_url} in the project's settings under Model, or use --repair"
        yield bad(topic, f"{backend_url} is not connected", cure)
        return
    document = {"project": examined.project, "url": backend_url, "is_interactive": True}
    if examined.password:
        document |= {
            "auth_method": "BASIC_AUTH",
            "basic_auth_user": examined.password.user,
            "basic_auth_pass": examined.password.password,
        }
    try:
        examined.client.call("POST", "/api/ml/", body=document)
    except LabelStudioError as error:
        # Refused ones stay listed, as if connected.
        for row in examined.client.get("/api/ml", project=examined.project):
            if str(row["url"]).rstrip("/") == backend_url.rstrip("/"):
                examined.client.call("DELETE", f"/api/ml/{row['id']}")
        yield bad(topic, f"it cannot be connected: {error}", _cure_of(str(error), backend_url))
        return
    yield repaired(topic, f"{backend_url} is connected now")
    yield from examine_connections(
        Examined(examined.client, examined.project, examined.password, is_repairing=True),
        backend_url,
    )


def _duplicates(examined: Examined, rows: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Yield whether an address is connected more than once."""
    seen: dict[str, list[int]] = {}
    for row in rows:
        seen.setdefault(str(row["url"]).rstrip("/"), []).append(int(row["id"]))
    for url, numbers in seen.items():
        if len(numbers) == 1:
            continue
        topic, text = f"backend of {examined.place}", f"{url} is connected {len(numbers)} times"
        if examined.is_repairing:
            for number in numbers[1:]:
                examined.client.call("DELETE", f"/api/ml/{number}")
            yield repaired(topic, f"{text}, once now")
        else:
            yield bad(topic, text, "remove all but one under Model: each is asked at every turn")


def _backend(examined: Examined, row: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield whether one backend is connected as it should be."""
    topic, url = f"backend of {examined.place}", str(row["url"])
    fresh = examined.client.get(f"/api/ml/{row['id']}")  # Label Studio asks it while we wait.
    if is_dotless(url):
        yield bad(topic, f"the host name of {url} has no dot", _DOT_CURE)
    if fresh.get("state") == _CONNECTED:
        yield good(topic, f"Label Studio reaches {url}")
    else:
        said = " ".join(str(fresh.get("error_message") or "no reason given").split())[:300]
        yield bad(topic, f"Label Studio does not reach {url}: {said}", _cure_of(said, url))
    if not fresh.get("is_interactive"):
        text = f"{url} is not asked about clicks: interactive preannotations are off"
        if examined.is_repairing:
            document = {"url": url, "project": examined.project, "is_interactive": True}
            examined.client.call("PATCH", f"/api/ml/{row['id']}", body=document)
            yield repaired(topic, f"{text}; they are on now")
        else:
            yield bad(topic, text, "switch them on where the backend is listed, under Model")


def _webhook(examined: Examined, url: str, hooks: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Yield whether events reach a backend."""
    topic = f"webhook of {examined.place}"
    found = [one for one in hooks if str(one["url"]).rstrip("/").startswith(f"{url}/webhook")]
    if not found:
        yield from _made_webhook(examined, topic, url)
        return
    hook = found[0]
    wrong, change = _faults(hook)
    status = _delivered(str(hook["url"]), hook.get("headers") or {})
    if status == 401:
        wrong.append("the backend refuses events: Label Studio sends them without its password")
        if examined.password:
            headers = {**(hook.get("headers") or {}), "Authorization": examined.password.header}
            change["headers"] = headers
    elif isinstance(status, str):
        wrong.append(f"a test event does not arrive from here ({status})")
    elif status >= 400:
        wrong.append(f"the backend answers a test event with {status}")
    if not wrong:
        yield good(topic, f"events reach {hook['url'].partition('/webhook')[0]}/webhook")
        return
    text = "; ".join(wrong)
    if examined.is_repairing and change:
        examined.client.call("PATCH", f"/api/webhooks/{hook['id']}/", body=change)
        after = _delivered(str(hook["url"]), change.get("headers", hook.get("headers") or {}))
        if after == 200:
            yield repaired(topic, f"{text}; mended, a test event arrives")
            return
    yield bad(topic, text, _webhook_cure(status, examined))


def _made_webhook(examined: Examined, topic: str, url: str) -> Iterator[Finding]:
    """Yield that there is no webhook; make one where that is wanted and can be."""
    text = f"{url} gets no events: Label Studio made no webhook, so nothing is learned"
    if is_dotless(url):
        yield bad(topic, f"{text}, because its host name has no dot", _DOT_CURE)
        return
    if not examined.is_repairing:
        yield bad(
            topic,
            text,
            "use --repair, or connect the backend again. It happens where the connection was "
            f"refused at first: {_LOCAL_CURE}",
        )
        return
    headers = {"Authorization": examined.password.header} if examined.password else {}
    document = {
        "url": f"{url}/webhook",
        "project": examined.project,
        "send_payload": True,
        "send_for_all_actions": True,
        "is_active": True,
        "headers": headers,
    }
    examined.client.call("POST", "/api/webhooks/", body=document)
    status = _delivered(f"{url}/webhook", headers)
    if status == 200:
        yield repaired(topic, f"{text}; it is made, and a test event arrives")
    else:
        yield bad(topic, f"{text}; it is made now", _webhook_cure(status, examined))


def _faults(hook: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Return what is wrong with a webhook, and what would mend it."""
    wrong, change = [], {}
    if not hook.get("is_active", True):
        wrong.append("it is switched off")
        change["is_active"] = True
    if not hook.get("send_payload", True):
        wrong.append("it sends no payload")
        change["send_payload"] = True
    missing = [one for one in _NEEDED if one not in (hook.get("actions") or [])]
    if not hook.get("send_for_all_actions", True) and missing:
        wrong.append(f"it leaves out {', '.join(missing)}")
        change["send_for_all_actions"] = True
    return wrong, change


def _delivered(url: str, headers: Mapping[str, str]) -> int | str:
    """Send an event that means nothing; return the status, or why there was none."""
    try:
        answer = requests.post(
            url,
            json={"action": PING},
            headers=dict(headers),
            timeout=_SECONDS,
            allow_redirects=False,
        )
    except requests.RequestException as error:
        return type(error).__name__
    return answer.status_code


def _webhook_cure(status: int | str, examined: Examined) -> str:
    """Return what to do about events that do not arrive."""
    if status == 401 and not examined.password:
        return (
            "set SAM_PLUGINS_LS_USER and SAM_PLUGINS_LS_PASSWORD as the backend has them and use "
            "--repair, which puts them into the webhook's headers"
        )
    if status == 401:
        return "use --repair, which puts the password into the webhook's headers"
    if isinstance(status, str):
        return "start the backend; if Label Studio is on another network, run the doctor there"
    return "use --repair, or switch it on under Settings, Webhooks, with payload and all actions"


def _cure_of(said: str, url: str) -> str:
    """Return what to do about a backend that Label Studio does not reach, by what it says."""
    low = said.lower()
    if "reserved" in low or "block" in low or "403" in low:
        return _LOCAL_CURE
    if "401" in low or "unauthorized" in low or "authoris" in low:
        return "enter the backend's user and password where it is listed, under Model"
    if "resolve" in low:
        return (
            f"Label Studio does not know the host {urlsplit(url).hostname}: use a name or number "
            "that it knows; from a container the machine itself is host.docker.internal"
        )
    if is_own_machine(url):
        return (
            "start the backend; if Label Studio runs in a container, localhost is the container "
            "itself: use host.docker.internal, or the service's name with a dot in it"
        )
    return "start the backend, and open its /health from the machine that Label Studio runs on"


def is_own_machine(url: str) -> bool:
    """Return whether an address means the machine that uses it.

    Examples
    --------
    >>> is_own_machine("http://localhost:9090"), is_own_machine("http://10.0.0.5:9090")
    (True, False)
    """
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
