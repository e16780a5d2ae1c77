"""The server: six routes of Label Studio's protocol, a page for people, numbers for Prometheus."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any

from sam_plugins.errors import SamPluginsError, how_to_install
from sam_plugins.labelstudio_backend import auth
from sam_plugins.labelstudio_backend.browsers import why_refused
from sam_plugins.labelstudio_backend.documents import read_document
from sam_plugins.labelstudio_backend.logs import LOG, request_id
from sam_plugins.labelstudio_backend.payload import read_project
from sam_plugins.labelstudio_backend.prefix import below
from sam_plugins.labelstudio_backend.problems import PayloadError
from sam_plugins.labelstudio_backend.protocols import Learning
from sam_plugins.labelstudio_backend.service import Service
from sam_plugins.labelstudio_backend.settings import Settings
from sam_plugins.labelstudio_backend.status_page import render_status

if TYPE_CHECKING:
    from flask import Flask, Response

_REALM = 'Basic realm="sam-plugins"'
_UNAUTHORISED = (
    "user or password are missing or wrong; enter those of this backend (SAM_PLUGINS_LS_USER, "
    "SAM_PLUGINS_LS_PASSWORD) where Label Studio lists the model, under basic authentication"
)
_LONGEST_REASON = 500
_NO_JSON = "the body must be JSON; send it with the header Content-Type: application/json"


def create_app(
    settings: Settings | None = None,
    *,
    service: Service | None = None,
    learning: Learning | None = None,
) -> Flask:
    """Return the application; the only place that builds one.

    Parameters
    ----------
    settings : Settings, optional
        From the environment by default.
    service : Service, optional
        What answers; made from the settings by default.
    learning : Learning, optional
        What takes events in and trains; without it events are acknowledged and forgotten.

    Returns
    -------
    Flask
        A WSGI application. ``app.extensions["sam_plugins"]`` is the service.

    Raises
    ------
    MissingExtraError
        If Flask is not installed.
    """
    flask = _flask()
    settings = settings or Settings()
    service = service or Service(settings)
    app: Flask = flask.Flask("sam_plugins.labelstudio_backend", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.extensions["sam_plugins"] = service
    _add_guards(app, settings, service)
    _add_errors(app, service)
    _add_protocol(app, service, learning)
    _add_pages(app, service, learning)
    app.wsgi_app = below(app.wsgi_app, settings.prefix)  # type: ignore[assignment,method-assign]
    return app


def _flask() -> Any:  # noqa: ANN401
    """Return Flask, or say how to get it."""
    from sam_plugins.errors import MissingExtraError

    try:
        import flask
    except ImportError as error:
        raise MissingExtraError(
            f"the Label Studio backend needs Flask; {how_to_install('labelstudio')}"
        ) from error
    return flask


def _add_guards(app: Flask, settings: Settings, service: Service) -> None:
    """Ask for the password before, and log and count after, every request."""
    from flask import g, request

    @app.before_request
    def guard() -> Response | None:
        g.began = time.perf_counter()
        given = request.headers.get("X-Request-ID", "")
        is_plain = given.isascii() and given.replace("-", "").isalnum() and len(given) <= 64
        g.request_id = given if is_plain else uuid.uuid4().hex[:16]
        request_id.set(g.request_id)
        refused = why_refused(request.headers, settings, asks_password=settings.asks_password)
        if refused is not None:
            g.noted = {"refused": refused}
            return _problem(403, refused)
        secret = (request.view_args or {}).get("secret")
        if secret is not None and auth.is_secret(secret, settings):
            return None
        if auth.is_allowed(request.headers.get("Authorization"), settings):
            return None
        response = _problem(401, _UNAUTHORISED)
        response.headers["WWW-Authenticate"] = _REALM
        return response

    @app.after_request
    def note(response: Response) -> Response:
        seconds = time.perf_counter() - g.get("began", time.perf_counter())
        route = request.url_rule.endpoint if request.url_rule else "unknown"
        response.headers["X-Request-ID"] = g.get("request_id", "")
        response.headers["X-Content-Type-Options"] = "nosniff"
        service.metrics.requests.labels(route, str(response.status_code)).inc()
        service.metrics.seconds.labels(g.get("kind", route)).observe(seconds)
        LOG.info(
            "request",
            extra={
                "route": route,
                "method": request.method,
                "status": response.status_code,
                "ms": round(seconds * 1000, 1),
                "bytes_in": request.content_length or 0,
                "bytes_out": response.calculate_content_length() or 0,
                **g.get("noted", {}),
            },
        )
        return response


def _add_errors(app: Flask, service: Service) -> None:
    """Answer every error as JSON with a reason; Label Studio shows none of them to anybody."""
    from flask import g, request
    from werkzeug.exceptions import HTTPException

    @app.errorhandler(PayloadError)
    def malformed(error: PayloadError) -> Response:
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        g.noted = {**g.get("noted", {}), "refused": reason}
        service.problems.add("request", f"a request to {request.path[:80]} was refused: {reason}")
        service.metrics.problems.labels("request").inc()
        return _problem(400, reason)

    @app.errorhandler(RecursionError)
    def too_deep(_: RecursionError) -> Response:
        return _problem(400, "the body is nested too deeply; no annotation and no task is")

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        return _problem(error.code or 500, error.description or error.name)

    @app.errorhandler(SamPluginsError)
    def impossible(error: SamPluginsError) -> Response:
        # the disk is full, weights are missing: nothing that a traceback would explain
        LOG.error("cannot be answered now: %s", error)
        return _problem(503, str(error))

    @app.errorhandler(Exception)
    def ours(error: Exception) -> Response:
        LOG.error("internal error", exc_info=error)
        return _problem(
            500,
            f"internal error: {type(error).__name__}; this is a mistake of sam-plugins, please "
            "report it with the traceback from the log of this request",
        )


def _add_protocol(app: Flask, service: Service, learning: Learning | None) -> None:
    """Add what Label Studio calls."""
    from flask import g, jsonify, request

    @app.get("/")
    @app.get("/health")
    def health() -> Response:
        return jsonify(service.health())

    @app.post("/setup")
    def setup() -> Response:
        payload = _document()
        answer = service.setup(payload)
        if learning is not None:
            learning.on_project(read_project(payload.get("project")))
        return jsonify(answer)

    @app.post("/predict")
    def predict() -> Response:
        payload = _document()
        answer = service.predict(payload)
        g.kind, g.noted = answer.kind, answer.noted
        return app.response_class(
            json.dumps(answer.document(), separators=(",", ":"), allow_nan=False),
            mimetype="application/json",
        )

    @app.post("/webhook")
    @app.post("/webhook/<secret>")
    def webhook(secret: str = "") -> Response:
        del secret  # checked by the guard
        payload = _document()
        if not isinstance(payload.get("action"), str):
            raise PayloadError(f"a webhook must name its action, got the keys {sorted(payload)}")
        g.noted = {"action": payload["action"]}
        if learning is not None:
            learning.on_webhook(payload)
        return jsonify({"status": "queued" if learning is not None else "ignored"})

    @app.get("/versions")
    def versions() -> Response:
        project = request.args.get("project")
        known = learning.versions(project) if learning is not None else []
        return jsonify({"versions": known or service.versions(project)})


def _add_pages(app: Flask, service: Service, learning: Learning | None) -> None:
    """Add what people and Prometheus look at."""
    from flask import jsonify, request

    @app.get("/status")
    def status() -> Response:
        document = service.status()
        if learning is not None:
            try:
                document["learning"] = learning.status()
            except SamPluginsError as error:  # a full disk, say: the page tells of it
                document["learning"] = {"errors": [{"message": str(error)}]}
        wants_page = request.accept_mimetypes.best_match(["application/json", "text/html"])
        if wants_page == "text/html":
            return app.response_class(render_status(document), mimetype="text/html")
        return jsonify(document)

    @app.get("/metrics")
    def metrics() -> Response:
        return app.response_class(service.metrics_text(), mimetype="text/plain; version=0.0.4")


def _document() -> dict[str, Any]:
    """Return the JSON object of the request.

    A page of another site may send plain texts and forms without asking first, but no JSON.
    """
    from flask import abort, request

    body = request.get_data(cache=False)
    if body and request.mimetype != "application/json":
        abort(415, _NO_JSON)
    return read_document(body)


def _problem(code: int, detail: str) -> Response:
    """Return an error as JSON."""
    from flask import g, jsonify

    response = jsonify({"detail": detail, "request_id": g.get("request_id", "")})
    response.status_code = code
    return response
