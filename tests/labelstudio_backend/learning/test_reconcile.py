"""What events did not tell is mended by a real server's API; faults of that API are told."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.labelstudio_backend.learning.helpers import CONFIG, SIZE_HW, brush, fetch, square
from tests.labelstudio_backend.server import EMAIL, TOKEN, LabelStudio, free_port

from sam_plugins.errors import LabelStudioError
from sam_plugins.labelstudio_backend.learning import mirror, tally
from sam_plugins.labelstudio_backend.learning.api import Api
from sam_plugins.labelstudio_backend.learning.backend import BackendLearning
from sam_plugins.labelstudio_backend.learning.database import Database, now
from sam_plugins.labelstudio_backend.learning.keys import key_of
from sam_plugins.labelstudio_backend.learning.reconcile import reconcile
from sam_plugins.labelstudio_backend.learning.settings import LearningSettings
from sam_plugins.model.engine.project.project import Project

KEY = "7.1795850291"
MINE = {"id": 7, "title": "Cells", "created_at": "2026-11-28T07:18:11Z", "label_config": CONFIG}


def listed(number: int, minute: int = 0) -> dict[str, Any]:
    """An annotation as the API lists it."""
    return {"id": number, "result": [], "updated_at": f"2026-11-28T08:{minute:02d}:00Z"}


def known(database: Database) -> list[int]:
    """The annotations that exist, as far as is known."""
    return sorted(mirror.known_annotations(database, KEY))


def test_a_listing_mends_what_was_missed_and_leaves_what_came_since(tmp_path: Path) -> None:
    database = Database(tmp_path)
    asked_at = now()
    with database.writing() as connection:
        mirror.put_project(connection, KEY, MINE)
        before, since = asked_at - 9, asked_at + 1
        for number, task, seen_at in ((1, 5, before), (2, 5, before), (3, 6, since)):
            mirror.put_task(connection, KEY, task, {"image": "x"}, seen_at)
            mirror.put_annotation(connection, KEY, task, listed(number), seen_at)
        mirror.delete_annotation(connection, KEY, 4, asked_at - 9)
        mirror.delete_annotation(connection, KEY, 5, asked_at + 1)
    tasks = [
        {
            "id": 5,
            "data": {"image": "x"},
            "annotations": [listed(1, minute=3), listed(4), listed(5)],
        }
    ]
    mended = mirror.take_listing(database, KEY, MINE, tasks, asked_at)
    # 1 was changed, 2 deleted and 4 not: no event told. 3 came and 5 went while pages were turned.
    assert known(database) == [1, 3, 4]
    assert mended == 3
    assert mirror.take_listing(database, KEY, MINE, tasks, asked_at + 2) > 0
    assert known(database) == [1, 4, 5]


@contextmanager
def answering(status: int, seconds: float = 0.0) -> Iterator[str]:
    """A server that answers everything so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(seconds)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "refuses the token: make a personal access token"),
        (403, "does not let this user do that: use the token of an administrator"),
        (404, r"has no such thing; was it deleted\?"),
    ],
)
def test_refusals_are_told_and_nothing_changes(tmp_path: Path, status: int, reason: str) -> None:
    database = Database(tmp_path)
    with database.writing() as connection:
        mirror.put_project(connection, KEY, MINE)
        mirror.put_task(connection, KEY, 5, {"image": "x"}, 1.0)
        mirror.put_annotation(connection, KEY, 5, listed(1), 1.0)
    with (
        answering(status) as url,
        closing(Api(url, TOKEN)) as api,
        pytest.raises(LabelStudioError, match=reason),
    ):
        reconcile(database, api, KEY)
    assert known(database) == [1]
    assert tally.counts(database, KEY)["reconcile_error"]


def test_a_server_that_is_down_or_slow_is_told(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with (
        closing(Api(nobody, TOKEN)) as api,
        pytest.raises(LabelStudioError, match=r"cannot reach Label Studio .* check that it runs"),
    ):
        api.project(1)
    with (
        answering(200, seconds=3.0) as url,
        closing(Api(url, TOKEN, timeout=0.3)) as api,
        pytest.raises(LabelStudioError, match=r"did not answer within 0.3 s"),
    ):
        api.project(1)


# --------------------------------------------------------------------------------- with a server


def learning_of(server: LabelStudio, folder: Path, token: str = TOKEN) -> BackendLearning:
    """The learning of a backend that no event reaches."""
    settings = LearningSettings(folder=folder, url=server.url, token=token, reconcile_seconds=0.01)
    return BackendLearning(settings, fetch=lambda key, task, url: fetch(key, task, "x-1.png"))


@pytest.mark.server
@pytest.mark.timeout(900)
def test_lost_events_and_expired_tokens_are_made_good(
    label_studio: LabelStudio, tmp_path: Path
) -> None:
    made = label_studio.make_project(CONFIG, "Lost events")
    number, key = int(made["id"]), key_of(made)
    assert key is not None
    Image.new("L", SIZE_HW[::-1]).save(tmp_path / "a-1.png")
    (task,) = label_studio.upload(number, [tmp_path / "a-1.png"])
    first = label_studio.annotate(task, [brush("aaaaaaaaaa", square(2, 2))])
    personal = label_studio.personal_token()
    learning = learning_of(label_studio, tmp_path / "state", token=personal)
    assert learning.find_project(str(number)) == key
    learning.on_project(key)
    learning.work()
    status = learning.status()
    assert status["errors"] == []
    with Project.open(status["projects"][key]["folder"]) as project:
        (only,) = project.labels.objects()
        assert (only.author, only.seconds) == (EMAIL, 10.0)

    # In mid-run the access token is refused: another is fetched.
    assert learning._api is not None
    client = learning._api._client
    assert client is not None
    broken = client._client_wrapper._tokens_client
    broken._access_token = broken._access_token[:-4] + "AAAA"
    label_studio.call("DELETE", f"/api/annotations/{first}/")
    label_studio.annotate(task, [brush("bbbbbbbbbb", square(9, 9)), brush("c" * 10, square(1, 20))])
    time.sleep(0.05)
    learning.work()
    assert learning.status()["errors"] == []
    with Project.open(status["projects"][key]["folder"]) as project:
        assert len(project.labels.objects()) == 2
    learning.close()
