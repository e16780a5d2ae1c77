"""Ends that the system orders (SIGTERM, SIGHUP), with the same care as Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ORDERS = ("SIGTERM", "SIGHUP")
_OF_A_SIGNAL = 128


class Terminated(SystemExit):
    """The process was told to end; its code is the one that shells know for that signal."""

    def __init__(self, number: int) -> None:
        super().__init__(_OF_A_SIGNAL + number)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Turn an order to end into :class:`Terminated`, so that what is half done is undone.

    A signal that somebody ignores (``nohup``) or handles stays theirs.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        signal.signal(number, signal.SIG_IGN)  # undoing is not to be disturbed
        raise Terminated(number)

    known = [getattr(signal, name) for name in _ORDERS if hasattr(signal, name)]
    ours = [number for number in known if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
