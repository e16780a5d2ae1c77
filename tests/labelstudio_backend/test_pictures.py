"""Where pictures come from: who may be asked, with what, and what is refused."""

from __future__ import annotations

import contextlib
import io
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from flask import Flask, Response, request
from PIL import Image
from tests.labelstudio_backend.serving import served

from sam_plugins.errors import ImageError
from sam_plugins.labelstudio_backend.addresses import (
    AddressError,
    Where,
    checked_addresses,
    is_public,
    locate,
)
from sam_plugins.labelstudio_backend.client import LabelStudioClient
from sam_plugins.labelstudio_backend.images import PictureFiles, Source, decode_rgb
from sam_plugins.labelstudio_backend.problems import Problems
from sam_plugins.labelstudio_backend.settings import Settings
from sam_plugins.model.io.images import open_image

PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "::1",
    "fe80::1",
    "fc00::1",
    "::ffff:10.0.0.1",
    "2002:7f00:1::",
    "64:ff9b::a00:1",
    "nonsense",
]
STUDIO = "http://studio.example:8080"


def png(size: tuple[int, int] = (8, 6)) -> bytes:
    """Return a small picture."""
    file = io.BytesIO()
    Image.new("L", size, 200).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def seen() -> list[tuple[str, dict[str, str]]]:
    return []


@pytest.fixture
def host(seen: list[tuple[str, dict[str, str]]]) -> Iterator[str]:
    """A server of pictures, good and bad."""
    app = Flask("pictures")

    @app.before_request
    def note() -> None:
        seen.append((request.path, dict(request.headers)))

    @app.get("/data/upload/1/good.png")
    @app.get("/good.png")
    def good() -> Response:
        if request.headers.get("If-None-Match") == "abc":
            return Response(status=304)
        return Response(png(), headers={"ETag": "abc"})

    @app.get("/cut.png")
    def cut() -> Response:
        return Response(iter([png()[:-9]]), headers={"Content-Length": str(len(png()))})

    @app.get("/slow.png")
    def slow() -> Response:
        def drops() -> Iterator[bytes]:
            for _ in range(40):
                time.sleep(0.1)
                yield b"x"

        return Response(drops())

    @app.get("/large.png")
    def large() -> Response:
        return Response(b"x" * 3_000_000)

    @app.get("/data/upload/1/away.png")
    def away() -> Response:
        return Response(status=302, headers={"Location": request.args["to"]})

    with served(app) as url:
        yield url


def settings(tmp_path: Path, **more: Any) -> Settings:
    """Return settings that keep everything in a folder of the test."""
    return Settings(folder=tmp_path, **more)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file:///etc/passwd", "must be http"),
        ("ftp://x/y.png", "must be http"),
        ("etc/passwd", "must be http"),
        ("//evil.example/x.png", "must be http"),
        ("/api/users/", "no place of pictures"),
        (f"{STUDIO}/api/current-user/token", "no place of pictures"),
        ("/data/local-files/?d=../../etc/passwd", "climbs"),
        ("/data/local-files/?d=%2e%2e/secret", "climbs"),
        ("/data/local-files/?d=a%252f..%252f..%252fb", "climbs"),
        ("/data/upload/../../api/users", "climbs"),
        ("http://user:pw@host/x.png", "user or a password"),
        ("http://host/a b.png", "spaces"),
        ("http://host:99999/x.png", "cannot be read"),
    ],
)
def test_addresses_that_are_refused(url: str, reason: str) -> None:
    with pytest.raises(AddressError, match=reason):
        locate(url, STUDIO, "1")


def test_addresses_that_label_studio_resolves() -> None:
    upload = locate("/data/upload/3/0a1b2c3d-x.png", STUDIO, "7")
    assert upload == Where(f"{STUDIO}/data/upload/3/0a1b2c3d-x.png", True, True)
    cloud = locate("s3://bucket/a b.png", STUDIO, "7")
    assert cloud.url == f"{STUDIO}/tasks/7/resolve/?fileuri=czM6Ly9idWNrZXQvYSBiLnBuZw=="
    assert cloud.is_label_studio
    below = locate("/ls/data/upload/3/x.png", "https://example.org/ls", "7")
    assert below.url == "https://example.org/ls/data/upload/3/x.png"
    assert not locate("http://studio.example:80/x.png", STUDIO, "7").is_label_studio


@pytest.mark.parametrize(
    "address",
    PRIVATE,
)
def test_private_addresses_are_known_however_they_are_written(address: str) -> None:
    assert not is_public(address)


def test_private_hosts_are_asked_only_when_named(tmp_path: Path) -> None:
    where = Where("http://localhost:9/x.png")
    with pytest.raises(AddressError, match="ALLOWED_HOSTS"):
        checked_addresses(where, (), STUDIO)
    assert checked_addresses(where, ("localhost",), STUDIO)
    assert checked_addresses(where, (), "http://localhost:9")
    with pytest.raises(AddressError, match="private"):  # another port of the same machine
        checked_addresses(where, (), "http://localhost:8080")


def test_a_picture_is_fetched_once_with_the_token_and_asked_for_again(
    host: str, tmp_path: Path, seen: list[tuple[str, dict[str, str]]]
) -> None:
    files = PictureFiles(settings(tmp_path, fresh_seconds=0))
    client = LabelStudioClient(host, "legacy-token")
    upload = Source("/data/upload/1/good.png", "1", client)
    assert files.get(upload).content == png()
    assert files.get(upload).content == png()  # an upload never changes
    assert [headers.get("Authorization") for _, headers in seen] == ["Token legacy-token"]
    del seen[:]
    public = PictureFiles(settings(tmp_path, fresh_seconds=0, allowed_hosts="127.0.0.1"))
    source = Source(f"{host}/good.png", "1")
    assert public.get(source).digest == public.get(source).digest
    assert [headers.get("If-None-Match") for _, headers in seen] == [None, "abc"]
    assert all("Authorization" not in headers for _, headers in seen)


def test_a_token_does_not_follow_a_redirect_and_no_redirect_leads_inside(
    host: str, tmp_path: Path, seen: list[tuple[str, dict[str, str]]]
) -> None:
    files = PictureFiles(settings(tmp_path))
    client = LabelStudioClient(host, "legacy-token")
    with pytest.raises(AddressError, match="private"):
        files.get(Source("/data/upload/1/away.png?to=http://127.0.0.1:1/x.png", "1", client))
    with pytest.raises(AddressError, match="not followed"):
        files.get(Source("/data/upload/1/away.png?to=file:///etc/passwd", "1", client))
    other = Flask("other")
    got: list[str | None] = []

    @other.get("/x.png")
    def x() -> Response:
        got.append(request.headers.get("Authorization"))
        return Response(png())

    with served(other) as elsewhere:
        allowed = PictureFiles(settings(tmp_path, allowed_hosts="127.0.0.1"))
        target = f"/data/upload/1/away.png?to={elsewhere}/x.png"
        assert allowed.get(Source(target, "1", client)).content == png()
    assert got == [None]


def test_no_redirect_leads_to_what_is_no_picture_on_label_studio(
    host: str, tmp_path: Path, seen: list[tuple[str, dict[str, str]]]
) -> None:
    path, reason = "/api/projects/1/export", "no place of pictures"
    other = Flask("other")

    @other.get("/x.png")
    def x() -> Response:
        return Response(status=302, headers={"Location": f"{host}{path}"})

    files = PictureFiles(settings(tmp_path, allowed_hosts="127.0.0.1"))
    client = LabelStudioClient(host, "legacy-token")
    with served(other) as elsewhere, pytest.raises(AddressError, match=reason):
        files.get(Source(f"{elsewhere}/x.png", "1", client))
    with pytest.raises(AddressError, match=reason):
        files.get(Source(f"/data/upload/1/away.png?to={path}", "1", client))
    assert {asked for asked, _ in seen} == {"/data/upload/1/away.png"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cut.png", "broke off|promised"),
        ("slow.png", "not fetched within"),
        ("large.png", "larger than"),
        ("none.png", "answered 404"),
    ],
)
def test_limits_of_a_picture(host: str, tmp_path: Path, name: str, reason: str) -> None:
    seconds = 0.5 if name == "slow.png" else 30
    chosen = settings(tmp_path, allowed_hosts="127.0.0.1", max_image_mib=1, image_seconds=seconds)
    with pytest.raises(ImageError, match=reason):
        PictureFiles(chosen).get(Source(f"{host}/{name}", "1"))


DRIPS = {
    "headers": b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 400,
    "content": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 400,
    "content of no length": b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 400,
}


@pytest.mark.parametrize("dripped", DRIPS)
def test_a_server_that_sends_a_byte_now_and_then_is_left_in_time(
    tmp_path: Path, dripped: str
) -> None:
    sent, ended = DRIPS[dripped], threading.Event()
    asked: list[int] = []

    class Dripping(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            asked.append(len(self.request.recv(4096)))
            start = sent.index(b"x")
            self.request.sendall(sent[:start])
            for number in range(start, len(sent)):
                if ended.wait(0.1):
                    return
                with contextlib.suppress(OSError):
                    self.request.sendall(sent[number : number + 1])

    chosen = settings(tmp_path, allowed_hosts="127.0.0.1", image_seconds=1)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Dripping) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        began = time.monotonic()
        try:
            with pytest.raises(ImageError, match="not fetched within 1 s; raise SAM_PLUGINS_LS_IM"):
                PictureFiles(chosen).get(
                    Source(f"http://127.0.0.1:{server.server_address[1]}/x.png", "1")
                )
            took = time.monotonic() - began
        finally:
            ended.set()
            server.shutdown()
    assert took < 10, "it took as long as the server liked"  # 40 s, at a byte each tenth
    assert len(asked) == 1, "there was no time for a second try"


def test_a_server_that_is_down_says_so(tmp_path: Path) -> None:
    files = PictureFiles(settings(tmp_path, allowed_hosts="127.0.0.1"))
    with pytest.raises(ImageError, match="check that its server runs"):
        files.get(Source("http://127.0.0.1:1/x.png", "1"))


def test_decompression_bombs_and_damaged_files_are_refused(tmp_path: Path) -> None:
    chosen = settings(tmp_path, max_image_megapixels=0.01)
    with pytest.raises(ImageError, match="million pixels"):
        decode_rgb(png((200, 200)), chosen)
    good = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)).save(
        good, "JPEG"
    )
    for content in (b"", b"<svg/>", png()[:40], good.getvalue()[:900]):
        with pytest.raises(ImageError):
            decode_rgb(content, chosen)


def test_a_stack_says_how_its_planes_are_imported(tmp_path: Path) -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((3, 20, 30), np.uint8), photometric="minisblack")
    with pytest.raises(ImageError, match=r"^the picture is a stack of 3 planes.*a picture of its"):
        decode_rgb(file.getvalue(), settings(tmp_path))


def test_no_file_beside_is_read_for_a_picture(tmp_path: Path) -> None:
    """An OME-TIFF may name files of the machine as its other planes."""
    other, first = tmp_path / "other.ome.tif", io.BytesIO()
    plane = np.full((20, 30), 77, np.uint8)
    tifffile.imwrite(other, plane, ome=True)
    uuid = f'<UUID FileName="{other}">urn:uuid:1</UUID>'
    pixels = (
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="30" SizeY="20" SizeZ="1" '
        f'SizeC="1" SizeT="1"><TiffData IFD="0" PlaneCount="1">{uuid}</TiffData></Pixels>'
    )
    schema = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
    described = (
        f'<?xml version="1.0"?><OME {schema} UUID="urn:uuid:0"><Image>{pixels}</Image></OME>'
    )
    own = np.random.default_rng(0).integers(0, 255, plane.shape, np.uint8)
    tifffile.imwrite(first, own, description=described, metadata=None)
    (tmp_path / "named.tif").write_bytes(first.getvalue())
    with open_image(tmp_path / "named.tif") as opened:
        assert (opened.plane().pixels == plane).all()  # as somebody wants who names a file
    assert len(np.unique(decode_rgb(first.getvalue(), settings(tmp_path)))) > 100


def test_a_disk_that_takes_no_pictures_is_told_until_it_does(host: str, tmp_path: Path) -> None:
    problems = Problems()
    files = PictureFiles(settings(tmp_path, allowed_hosts="127.0.0.1", fresh_seconds=0), problems)
    (tmp_path / "pictures").write_text("in the way")
    for _ in range(2):
        assert files.get(Source(f"{host}/good.png", "1")).content == png()
    (told,) = problems.documents()
    assert told["kind"] == "disk"
    assert "set SAM_PLUGINS_LS_FOLDER" in told["message"]
    (tmp_path / "pictures").unlink()
    files.get(Source(f"{host}/good.png", "1"))
    assert problems.documents() == []


def test_channels_count_when_a_picture_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(tmp_path, max_image_megapixels=0.011)
    file = io.BytesIO()
    many = np.zeros((60, 100, 100), np.uint8)
    tifffile.imwrite(file, many, ome=True, photometric="minisblack", metadata={"axes": "CYX"})
    few = io.BytesIO()
    tifffile.imwrite(few, many[:3], ome=True, photometric="minisblack", metadata={"axes": "CYX"})
    assert decode_rgb(few.getvalue(), chosen).shape == (100, 100, 3)
    monkeypatch.setattr(
        "sam_plugins.model.io.opened.OpenImage.plane", lambda *_: pytest.fail("it was decoded")
    )
    with pytest.raises(ImageError, match="with its channels"):
        decode_rgb(file.getvalue(), chosen)
