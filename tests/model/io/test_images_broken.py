"""Every way in which a file can be broken, missing, locked, too large or no picture."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.model.io.reading import GREY, GREY16, RGB, STACK, check

from sam_plugins.errors import MemoryLimitError, UnreadableImageError
from sam_plugins.model.io import opened
from sam_plugins.model.io.images import is_image_folder, open_image, read_image


def make_files(folder: Path) -> list[Path]:
    tifffile.imwrite(folder / "plain.tif", GREY16)
    tifffile.imwrite(folder / "packed.tif", GREY16, compression="zlib")
    tifffile.imwrite(folder / "stack.tif", STACK, metadata={"axes": "ZYX"}, compression="zlib")
    Image.fromarray(RGB).save(folder / "colour.png")
    Image.fromarray(GREY16).save(folder / "deep.png")
    Image.fromarray(RGB).save(folder / "photo.jpg")
    Image.fromarray(RGB).save(folder / "b.bmp")
    Image.fromarray(RGB).save(folder / "w.webp")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("kept", [0.5, 0.9, 0.05])
def test_truncated_files(tmp_path: Path, kept: float) -> None:
    for path in make_files(tmp_path):
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * kept)])
        with pytest.raises(UnreadableImageError, match=rf"cannot read .*{path.name}: .*; "):
            read_image(path, plane=4 if path.name == "stack.tif" else None)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match=r"cannot read .*no\.png: no such file; check"):
        read_image(tmp_path / "no.png")


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(UnreadableImageError, match=r"a\.png: the file is empty \(0 bytes\); copy"):
        read_image(tmp_path / "a.png")


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("This is no picture.")
    with pytest.raises(UnreadableImageError, match=r"content is of no image format that we know"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["eps", "pdf", "ppm", "tga", "ico"])
def test_formats_that_only_pillow_knows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RGB).save(path)
    message = rf"a\.{suffix}: its content is of no image format that we know; .*; save it as one"
    with pytest.raises(UnreadableImageError, match=message):
        read_image(path)


def test_no_program_is_run_for_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/was_run\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    Image.fromarray(RGB).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with pytest.raises(UnreadableImageError, match="no image format that we know"):
        read_image(tmp_path / "a.png")
    assert not (tmp_path / "was_run").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.timeout(20)
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    for name in ("a.png", "b.png"):
        with pytest.raises(
            UnreadableImageError, match=rf"{name}: it is a pipe or a device and no f"
        ):
            read_image(tmp_path / name)


@pytest.mark.parametrize("name", ["~nouser/x.png", "~/no such file.png"])
def test_the_home_of_somebody_who_does_not_exist(name: str) -> None:
    with pytest.raises(
        UnreadableImageError, match=rf"cannot read {name}: no such file; check the n"
    ):
        read_image(name)


def test_a_folder_that_is_no_image(tmp_path: Path) -> None:
    assert not is_image_folder(tmp_path)
    with pytest.raises(UnreadableImageError, match="it is a folder, but no Zarr image; name the"):
        read_image(tmp_path)


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="the superuser may read everything"
)
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(UnreadableImageError, match="you may not read it; ask its owner"):
        read_image(tmp_path / "a.png")


def test_refused_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    Image.fromarray(RGB).save(tmp_path / "a.png")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UnreadableImageError, match=r"a\.png: you may not read it; ask its owner"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("looks", ["is_dir", "is_file"])
def test_a_folder_that_may_not_be_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: str
) -> None:
    def refuse(*_: Any, **__: Any) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, looks, refuse)
    with pytest.raises(UnreadableImageError, match=r"you may not read it; ask its owner"):
        open_image(tmp_path)


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match=r"aaa: the name is longer than a name can be"):
        read_image(tmp_path / ("a" * 300))


def test_animations(tmp_path: Path) -> None:
    frames = [Image.fromarray(GREY), Image.fromarray(GREY[::-1])]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(UnreadableImageError, match=r"got an animation of 2 frames; save the frame"):
        read_image(tmp_path / "a.gif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_too_many_pixels_for_pillow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: type[np.integer[Any]]
) -> None:
    picture = RGB.astype(dtype)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(picture))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # more is a warning, twice an error
    with pytest.raises(UnreadableImageError, match=r"decoded at once; convert it to TIFF or OME-Z"):
        read_image(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    check(tmp_path / "a.png", picture)


def test_memory_that_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY)
    with open_image(tmp_path / "a.tif") as image:

        def fail(_: Any) -> None:
            raise MemoryError

        monkeypatch.setattr(opened.np, "asarray", fail)
        with pytest.raises(MemoryLimitError, match=r"does not fit into memory; read a coarser lev"):
            image.plane()
