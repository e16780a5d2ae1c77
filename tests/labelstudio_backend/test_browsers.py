"""A name that leads here is no proof of who asks: what browsers send is judged by the name."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from flask.testing import FlaskClient
from pydantic import ValidationError
from tests.labelstudio_backend.browser import CHROMIUM
from tests.labelstudio_backend.conftest import MakeService
from tests.labelstudio_backend.serving import served
from werkzeug.datastructures import Headers
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.wrappers import Response

from sam_plugins.labelstudio_backend.app import create_app
from sam_plugins.labelstudio_backend.browsers import guarded, why_refused
from sam_plugins.labelstudio_backend.service import Service
from sam_plugins.labelstudio_backend.settings import Settings

EVIL = "rebound.example"
PROGRAMS = (
    {"User-Agent": "heartex/1.23.2", "Accept": "*/*", "Accept-Encoding": "gzip, deflate"},
    {"User-Agent": "python-requests/2.32.3"},
    {"User-Agent": "Prometheus/2.53.0", "Accept": "application/openmetrics-text"},
    {"User-Agent": "kube-probe/1.31"},
    {},
)
BROWSERS = (
    {"Origin": "http://{}"},
    {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0"},
    {"User-Agent": "anything", "Accept-Language": ""},
    {"Sec-Fetch-Site": "same-origin"},
)


def said(host: str, headers: dict[str, str], **settings: Any) -> str | None:
    """Why a request is refused that names a host so."""
    own = {name: value.format(host) for name, value in headers.items()}
    return why_refused(Headers({"Host": host, **own}), Settings(**settings), asks_password=False)


@pytest.mark.parametrize("headers", PROGRAMS)
@pytest.mark.parametrize(
    "host", ["sam-plugins:9090", "host.docker.internal:9090", "sam.team.svc.cluster.local", EVIL]
)
def test_what_does_not_look_like_a_browser_uses_any_name(
    host: str, headers: dict[str, str]
) -> None:
    assert said(host, headers) is None


@pytest.mark.parametrize("headers", BROWSERS)
def test_browsers_use_names_that_are_known(headers: dict[str, str]) -> None:
    for host in (f"{EVIL}:9090", EVIL, "127.0.0.1.nip.io", "localhost.evil.example", "sam:9090"):
        reason = said(host, headers)
        assert reason is not None
        assert host.partition(":")[0] in reason
        assert "SAM_PLUGINS_LS_HOST_NAMES" in reason
    ours = (
        "localhost:9090", "LOCALHOST.", "sam.localhost:9090", "127.0.0.1:9090", "[::1]:9090",
        "10.0.0.5", f"{socket.gethostname()}:9090",
    )  # fmt: skip
    for host in ours:
        assert said(host, headers) is None, host


@pytest.mark.parametrize(
    "settings",
    [
        {"host_names": ("other", "sam.lab.example")},
        {"host_names": ("http://Sam.Lab.Example:9090/",)},
        {"url": "https://sam.lab.example/studio"},
        {"url_map": {"http://localhost:8080": "http://sam.lab.example:8080"}},
    ],
)
def test_operators_name_their_backend(settings: dict[str, Any]) -> None:
    for headers in BROWSERS:
        assert said("sam.lab.example:9090", headers) is not None
        assert said("sam.lab.example:9090", headers, **settings) is None


@pytest.mark.parametrize("headers", BROWSERS)
def test_a_password_does_for_any_name_where_it_is_asked_for(headers: dict[str, str]) -> None:
    # One that is set where nobody asks for it keeps no page away.
    assert said(EVIL, headers, user="me", password="sesame") is not None
    sent = Headers({name: value.format(EVIL) for name, value in headers.items()} | {"Host": EVIL})
    assert why_refused(sent, Settings(), asks_password=True) is None


def test_names_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM_PLUGINS_LS_HOST_NAMES", "gpu01, Sam.lab:9090")
    assert Settings().host_names == ("gpu01", "sam.lab")
    for wrong in ("*", "*.lab", "http://"):
        with pytest.raises(ValidationError, match=r"must be names such as sam\.example\.org"):
            Settings(host_names=(wrong,))


def test_the_refusal_says_how_to_allow_the_name(client: FlaskClient, service: Service) -> None:
    for route in ("/health", "/status", "/metrics", "/versions"):
        answer = client.get(route, base_url=f"http://{EVIL}", headers={"Accept-Language": "en"})
        assert answer.status_code == 403
        assert (answer.json or {})["detail"] == said(EVIL, {"Accept-Language": "en"})
        assert client.get(route, base_url=f"http://{EVIL}").status_code == 200
    body = {"project": "1.17", "extra_params": {"min_area": 5}}
    own = {"Origin": f"http://{EVIL}"}
    assert (
        client.post("/setup", json=body, base_url=f"http://{EVIL}", headers=own).status_code == 403
    )
    assert service.projects.all() == []


def test_another_server_is_guarded_too(make_service: MakeService) -> None:
    service = make_service()
    app = create_app(service.settings, service=service)
    app.before_request_funcs.clear()  # one that looks at nothing
    app.wsgi_app = guarded(  # type: ignore[method-assign]
        app.wsgi_app, service.settings, asks_password=False
    )
    client = app.test_client()
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}):
        answer = client.post("/setup", json={"project": "1.1"}, headers=headers)
        assert (answer.status_code, service.projects.all()) == (403, [])
        assert "another site" in (answer.json or {})["detail"]
    assert client.post("/setup", json={"project": "1.1"}).status_code == 200


_ASK = """async () => {
  const get = await fetch('/status', {referrerPolicy: 'no-referrer'});
  const post = await fetch('/setup', {method: 'POST', body: '{"project": "6.6"}',
                                      headers: {'Content-Type': 'application/json'}});
  return [get.status, post.status];
}"""


@pytest.mark.browser
@pytest.mark.server
def test_a_page_whose_name_was_made_to_lead_here_is_refused(service: Service) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.is_file():
        pytest.skip(f"no browser at {CHROMIUM}; set SAM_PLUGINS_TEST_CHROMIUM to a chromium")
    leading = [f"--host-resolver-rules=MAP {EVIL} 127.0.0.1", "--no-sandbox"]
    app = create_app(service.settings, service=service)
    # The page is what the name led to before it was made to lead here.
    app.wsgi_app = DispatcherMiddleware(  # type: ignore[method-assign]
        app.wsgi_app, {"/page": Response("<p>", mimetype="text/html")}
    )
    with served(app) as url, playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=leading)
        try:
            page = browser.new_page()
            page.goto(f"{url.replace('127.0.0.1', EVIL)}/page")
            assert page.evaluate(_ASK) == [403, 403]
            assert service.projects.all() == []
            page.goto(f"{url.replace('127.0.0.1', 'localhost')}/page")
            assert page.evaluate(_ASK) == [200, 200]
        finally:
            browser.close()
