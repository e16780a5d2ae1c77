"""A backend with the model that ships with the package, and a real Label Studio."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from tests.labelstudio_backend.browser import logged_in
from tests.labelstudio_backend.server import LabelStudio, running

from sam_plugins.labelstudio_backend.app import create_app
from sam_plugins.labelstudio_backend.service import Service
from sam_plugins.labelstudio_backend.settings import Settings
from sam_plugins.model.inference.loading import Model, load_model

MakeService = Callable[..., Service]


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudio]:
    """A real server, shared by tests that use projects of their own."""
    with running(tmp_path_factory.mktemp("label-studio") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def page(label_studio: LabelStudio) -> Iterator[Any]:
    """A browser window in which somebody is logged in."""
    with logged_in(label_studio) as window:
        yield window


@pytest.fixture(scope="session")
def shipped_model() -> Model:
    return load_model("default", device="cpu")


@pytest.fixture
def make_service(shipped_model: Model, tmp_path: Path) -> Iterator[MakeService]:
    """Return what makes services around the shipped model; all are closed in the end."""
    made: list[Service] = []

    def make(**settings: object) -> Service:
        chosen = {"folder": tmp_path / "backend", "fresh_seconds": 3600, **settings}
        made.append(Service(Settings(**chosen), load=lambda _: shipped_model))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for service in made:
        service.close()


@pytest.fixture
def service(make_service: MakeService) -> Service:
    return make_service()


@pytest.fixture
def client(service: Service) -> FlaskClient:
    return create_app(service.settings, service=service).test_client()
