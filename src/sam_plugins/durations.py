"""Times as people say them: on the command line, and in windows."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Return a time in words.

    Examples
    --------
    >>> [duration(seconds) for seconds in (0.2, 41.3, 400, 5000)]
    ['1 s', '41 s', '7 min', '1 h 23 min']
    """
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
