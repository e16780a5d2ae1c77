"""Where pictures come from: who may be asked, with what, and what is refused."""

from __future__ import annotations

import io
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
from sam_plugins.labelstudio_backend.settings import Settings

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
        ("slow.png", "not fetched within|too long|broke off"),
        ("large.png", "larger than"),
        ("none.png", "answered 404"),
    ],
)
def test_limits_of_a_picture(host: str, tmp_path: Path, name: str, reason: str) -> None:
    seconds = 0.5 if name == "slow.png" else 30
    chosen = settings(tmp_path, allowed_hosts="127.0.0.1", max_image_mib=1, image_seconds=seconds)
    with pytest.raises(ImageError, match=reason):
        PictureFiles(chosen).get(Source(f"{host}/{name}", "1"))


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
    assert not list((tmp_path / "decoding").iterdir())


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
