"""A web server on this machine that behaves well or badly, and checkpoints to read."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sam_plugins.model.networks.config import (
    MaskDecoderConfig,
    Preprocessing,
    PromptEncoderConfig,
    SamConfig,
    VitConfig,
)
from sam_plugins.model.weights.registry import ModelEntry

MakeEntry = Callable[..., ModelEntry]


@dataclass
class FileServer:
    """Serves one file, and other content at addresses ``elsewhere``; how, its fields say."""

    content: bytes
    elsewhere: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    tells_size: bool = True
    retry_after: str | None = None
    claimed_start: int | None = None
    cut_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    requests: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    gate: threading.Event | None = None
    port: int = 0

    @property
    def url(self) -> str:
        """Address of the file."""
        return f"http://127.0.0.1:{self.port}/files/model.pth"

    @property
    def sha256(self) -> str:
        """Digest of the content."""
        return hashlib.sha256(self.content).hexdigest()


@pytest.fixture
def server() -> Iterator[FileServer]:
    """Serve 100,000 bytes; each entry of ``cut_after`` breaks one answer off."""
    state = FileServer(bytes(range(256)) * 390 + b"end of file")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.requests.append(wanted)
            state.paths.append(self.path)
            if state.gate is not None:
                state.gate.wait(20)
            if state.statuses:
                status = state.statuses.pop(0)
                if status != 200:
                    self.send_response(status)
                    if state.retry_after is not None:
                        self.send_header("Retry-After", state.retry_after)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
            content = state.elsewhere.get(self.path, state.content)
            start = 0
            if wanted and state.ranges:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                shown = start if state.claimed_start is None else state.claimed_start
                self.send_response(206)
                size = len(content)
                total = size if state.tells_size else "*"
                self.send_header("Content-Range", f"bytes {shown}-{size - 1}/{total}")
            else:
                self.send_response(200)
            body = content[start:]
            if self.path in state.elsewhere:
                self.send_header("Content-Type", "text/html")
            if state.tells_size:
                self.send_header("Content-Length", str(len(body)))
            else:
                self.close_connection = True  # Which ends the body.
            self.end_headers()
            if state.cut_after:
                self.wfile.write(body[: state.cut_after.pop(0)])
                self.close_connection = True
                return
            with contextlib.suppress(ConnectionError):  # Who asked has enough.
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    state.port = httpd.server_address[1]
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield state
    httpd.shutdown()
    httpd.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write every 1,000 bytes: what a broken connection leaves of a chunk is lost."""
    monkeypatch.setattr("sam_plugins.model.weights.transfer._CHUNK_BYTES", 1000)


@pytest.fixture
def make_entry(server: FileServer) -> MakeEntry:
    """Build a registry entry for the served file."""

    def build(**changes: object) -> ModelEntry:
        values: dict[str, object] = {
            "name": "tiny_model",
            "file_name": "tiny_model.pth",
            "urls": (server.url,),
            "digest": f"sha256:{server.sha256}",
            "size_bytes": len(server.content),
            "licence": "Apache-2.0",
            "input_convention": "RGB",
            "good_for": "tests",
        }
        return ModelEntry(**{**values, **changes})  # type: ignore[arg-type]

    return build


def files_in(folder: Path) -> list[str]:
    """Return the names of what is in a folder, without locks."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


@pytest.fixture(scope="session")
def tiny_config() -> SamConfig:
    """A plain ViT that a laptop builds in a moment; every number differs from SAM's."""
    return SamConfig(
        VitConfig(
            embed_dim=24,
            depth=3,
            num_heads=2,
            global_attention_blocks=(1,),
            image_size=128,
            patch_size=16,
            window_size=3,
            mlp_ratio=2.0,
            out_dim=32,
        ),
        PromptEncoderConfig(mask_in_dim=8),
        MaskDecoderConfig(depth=1, mlp_dim=40, upscale_dims=(8, 4), iou_head_hidden_dim=20),
        preprocessing=Preprocessing(min_long_side=128, max_long_side=128),
    )


@pytest.fixture(scope="session")
def tiny_state(tiny_config: SamConfig) -> dict[str, Tensor]:
    """Random weights of :func:`tiny_config`; do not change in place."""
    from sam_plugins.model.networks.builders import build_sam

    torch.manual_seed(0)
    return build_sam(tiny_config).state_dict()
