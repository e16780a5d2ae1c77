"""Bodies of requests, read as JSON: Label Studio sends some of 20 MB, and waits a second at most.

While one is parsed nobody else is answered, because the parser holds the interpreter. orjson holds
it a third as long as the standard library.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from sam_plugins.labelstudio_backend.problems import PayloadError

_HIGH, _LOW = rb"\\u[dD][89abAB][0-9a-fA-F]{2}", rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_HALF_LETTER = re.compile(_HIGH + rb"(?!" + _LOW + rb")|" + _LOW + rb"(?<!" + _HIGH + _LOW + rb")")
"""Half of a surrogate pair: JSON has words for it, but no file, page or database can hold it."""


def read_document(body: bytes) -> dict[str, Any]:
    r"""Return the JSON object that a body is; of a key that comes twice, the last.

    Raises
    ------
    PayloadError
        If it is none; says why.

    Examples
    --------
    >>> read_document(b'{"action": "TASKS_DELETED"}')
    {'action': 'TASKS_DELETED'}
    >>> read_document(rb'{"name": "half a letter: \ud83d"}')
    {'name': 'half a letter: ?'}
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = _leniently_read(body)
    if not isinstance(document, dict):
        raise PayloadError(f"the body must be a JSON object, got {type(document).__name__}")
    return document


def _leniently_read(body: bytes) -> Any:  # noqa: ANN401
    """Read what orjson refuses: halves of letters, NaN, huge numbers, and other encodings."""
    try:
        document = json.loads(body)
        if _HALF_LETTER.search(body) is not None:
            whole = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
            document = json.loads(whole)
    except (ValueError, RecursionError) as error:
        shown = " ".join(str(error).split())[:120]
        raise PayloadError(f"the body must be a JSON object, got no JSON: {shown}") from error
    return document
