"""The status as a page for people."""

from __future__ import annotations

import html
import time
from collections.abc import Mapping, Sequence
from typing import Any

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;"
    "color:#1d2733}h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:1.8rem}"
    "table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .8rem .3rem 0;"
    "border-bottom:1px solid #dde3ea;vertical-align:top}th{font-weight:600;white-space:nowrap}"
    "th.message{min-width:24rem}"
)


def render_status(document: Mapping[str, Any]) -> str:
    """Return an HTML page of a status document; every text in it is escaped.

    Parameters
    ----------
    document : mapping
        From ``Service.status``: plain values at the top, then mappings and lists of mappings,
        before all others the problems: who opens the page looks for these.
    """
    plain = {key: value for key, value in document.items() if not _is_part(value)}
    parts = [_table_of(plain)]
    ordered = sorted(document, key=lambda key: key != "problems")
    parts += [
        f"<h2>{_words(key)}</h2>{_part(document[key])}"
        for key in ordered
        if _is_part(document[key])
    ]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=10>"
        f"<title>sam-plugins backend</title><style>{_STYLE}</style>"
        f"<h1>sam-plugins: backend of Label Studio</h1>{''.join(parts)}</html>"
    )


def _is_part(value: Any) -> bool:  # noqa: ANN401
    """Return whether a value gets a heading of its own."""
    return isinstance(value, Mapping) or (
        isinstance(value, Sequence) and not isinstance(value, str)
    )


def _part(value: Any) -> str:  # noqa: ANN401
    """Return a mapping or a list as a table."""
    if isinstance(value, Mapping):
        return _table_of(value) if value else "<p>none</p>"
    rows = [row if isinstance(row, Mapping) else {"": row} for row in value]
    if not rows:
        return "<p>none</p>"
    keys = list(dict.fromkeys(key for row in rows for key in row))
    head = "".join(f"<th class={_class(key)}>{_words(key)}</th>" for key in keys)
    body = "".join(
        "<tr>" + "".join(f"<td>{_told(row.get(key, ''), key)}</td>" for key in keys) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _table_of(values: Mapping[str, Any]) -> str:
    """Return a mapping as a table of two columns."""
    rows = "".join(
        f"<tr><th>{_words(key)}</th><td>{_told(value, key)}</td></tr>"
        for key, value in values.items()
    )
    return f"<table>{rows}</table>"


def _told(value: Any, key: str) -> str:  # noqa: ANN401
    """Return a value as text; seconds since 1970 as a time."""
    if key.endswith("_at") and isinstance(value, int | float):
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(value)) if value else "never"
    if isinstance(value, Mapping):
        if any(isinstance(one, Mapping | list | tuple) for one in value.values()):
            return _table_of(value)
        told = [
            f"{_words(key)}: {_told(one, key)}" for key, one in value.items() if one is not None
        ]
        return "; ".join(told) or "none"
    if isinstance(value, list | tuple):
        if any(isinstance(one, Mapping) for one in value):
            return _part(value)
        inner = ": " if isinstance(value, tuple) else ", "  # a point of a curve, or a list
        return inner.join(_told(one, "") for one in value) or "none"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    return html.escape("none" if value is None else str(value))


def _words(key: str) -> str:
    """Return a key as people read it."""
    return html.escape(key.replace("_", " "))


def _class(key: str) -> str:
    """Return the class of a column, for its width."""
    return "message" if key == "message" else "value"
