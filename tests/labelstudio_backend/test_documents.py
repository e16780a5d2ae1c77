"""Bodies are read as the standard library reads them, in less time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from sam_plugins.labelstudio_backend.documents import read_document
from sam_plugins.labelstudio_backend.problems import PayloadError


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1, "b": [1.5, null, true, "\\u00e9\\ud83d\\ude00\\u0000"]}',
        b'{"a": 1, "a": 2}',
        b'{"a": NaN, "b": -Infinity, "c": 1e999}',
        b'{"a": %s}' % (b"9" * 400),
        b"\xef\xbb\xbf{}",
        '{"a": "é"}'.encode("utf-16"),
        b'{"a": %s}' % (b"[" * 500 + b"]" * 500),
    ],
)
def test_a_body_is_read_as_the_standard_library_reads_it(body: bytes) -> None:
    assert repr(read_document(body)) == repr(json.loads(body))


def test_half_letters_are_replaced_wherever_they_stand() -> None:
    body = b'{"\\ud83d": ["\\uDE00\\ud83d", "\\ud83d\\ude00", "\\\\ud83d"]}'
    assert read_document(body) == {"?": ["??", "\U0001f600", "\\ud83d"]}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "no JSON: Expecting value"),
        (b'{"a": "\xff"}', "no JSON: 'utf-8' codec can't decode byte 0xff"),
        (b'{"a": 1} {', "no JSON: Extra data"),
        (b'{"a": ' + b"[" * 100_000, "no JSON: maximum recursion depth exceeded"),
        (b"[1]", "got list"),
        (b"NaN", "got float"),
    ],
)
def test_what_is_no_object_is_refused_with_the_reason(body: bytes, reason: str) -> None:
    with pytest.raises(PayloadError, match=f"must be a JSON object, got.*{reason}|{reason}"):
        read_document(body)


def test_others_wait_a_shorter_time_while_a_large_body_is_read() -> None:
    rle = [index * 37 % 256 for index in range(1_500_000)]
    body = json.dumps({"action": "ANNOTATION_CREATED", "annotation": {"rle": rle}}).encode()
    assert read_document(body) == json.loads(body)

    def seconds(read: Callable[[bytes], object]) -> float:
        began = time.process_time()
        read(body)
        return time.process_time() - began

    ours, theirs = (min(seconds(read) for _ in range(4)) for read in (read_document, json.loads))
    assert ours < 0.75 * theirs  # measured: 0.43; 0.9 s of a busy machine were 15 MB
