"""Segmenting tells how far it is, can be stopped, and says what would fit into memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.model.inference.label_reader import (
    AS_IT_IS,
    CROWD,
    LabelReader,
    model_of,
)

from sam_plugins.errors import (
    MemoryLimitError,
    SamPluginsError,
)
from sam_plugins.model.inference import memory
from sam_plugins.model.inference.automatic import segment_embedding
from sam_plugins.model.inference.predict import encode_image
from sam_plugins.model.inference.segment_options import AUTO, MODES
from sam_plugins.model.large.whole import segment


def test_a_label_image_that_cannot_fit_is_refused_with_what_would(
    reader: LabelReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(reader)
    embedding = encode_image(model, CROWD)
    monkeypatch.setattr(memory, "available_bytes", lambda: 40_000)
    with pytest.raises(
        MemoryLimitError, match=r"label image of 100 x 170 pixels.*one of 100 x 100 would fit: crop"
    ):
        segment_embedding(model, embedding)


@pytest.mark.parametrize(
    ("mode", "part", "message"),
    [
        ("auto", "instances", "segmenting a picture of 100 x 170 .*crop the picture or reduce it$"),
        ("auto", "decode", "decoding 1 prompts at once .*reduce the picture to"),
        ("grid", "decode", "decoding 1 prompts at once .*reduce the picture to"),
    ],
)
def test_running_out_of_memory_says_what_would_fit(
    reader: LabelReader, monkeypatch: pytest.MonkeyPatch, mode: str, part: str, message: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(reader, part, fail)
    with pytest.raises(MemoryLimitError, match=message):
        segment(CROWD, model_of(reader), mode=mode, limits=AS_IT_IS)


def test_drawing_without_memory_says_to_ask_for_fewer_points() -> None:
    calls = 0

    def progress(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if done == total > 1:
            raise MemoryError

    with pytest.raises(MemoryLimitError, match=r"with fewer points \(options.points_per_side\)"):
        segment(CROWD, model_of(LabelReader()), mode="grid", limits=AS_IT_IS, progress=progress)
    assert calls == 1 + 19 * 32 / 4


def test_chunks_change_nothing(reader: LabelReader) -> None:
    model = model_of(reader)
    usual = segment(CROWD, model, limits=AS_IT_IS)
    for chunk_size in (1, 5, 100):
        options = replace(AUTO, chunk_size=chunk_size)
        found = segment(CROWD, model, limits=AS_IT_IS, options=options)
        np.testing.assert_array_equal(found.labels, usual.labels)


@pytest.mark.parametrize("mode", MODES)
def test_progress_starts_at_nothing_and_ends_with_everything(
    reader: LabelReader, mode: str
) -> None:
    reports: list[tuple[int, int]] = []
    segment(
        CROWD, model_of(reader), mode=mode, limits=AS_IT_IS, progress=lambda *r: reports.append(r)
    )
    assert reports[0] == (0, 1)
    total = reports[-1][1]
    assert {report[1] for report in reports[1:]} == {total}
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    assert reports[-1] == (total, total)


class StopError(SamPluginsError):
    """Somebody pressed a button."""


@pytest.mark.parametrize("error", [KeyboardInterrupt, StopError, RuntimeError])
@pytest.mark.parametrize("stop_at", [0, 1, 2, 5])
def test_an_exception_of_progress_stops_the_work(
    reader: LabelReader, error: type[BaseException], stop_at: int
) -> None:
    calls = 0

    def progress(done: int, total: int) -> None:
        nonlocal calls
        if calls == stop_at:
            raise error
        calls += 1

    with pytest.raises(error):
        segment(CROWD, model_of(reader), limits=AS_IT_IS, progress=progress)
    assert calls == stop_at  # nobody asked again
    assert reader.prompts_answered == 2 * min(4 * stop_at, 6)  # a point and a box for each
