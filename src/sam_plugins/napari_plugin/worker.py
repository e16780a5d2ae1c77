"""A function in a process of its own, for work that would not let the window breathe.

A thread shares the interpreter with the window. Encoding and segmenting spend their time inside
PyTorch, which lets go of it; training does not: a window stood still several times as long while a
thread trained as while a process did, which was also twice as quick (the table is in
``docs/explanation/performance.md``).

The process is ``python -m sam_plugins.napari_plugin.worker``: it hears on its standard input and
speaks on its standard output. (``multiprocessing`` would run the user's script again.)
"""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

from sam_plugins.errors import SamPluginsError

if TYPE_CHECKING:
    from sam_plugins.napari_plugin.jobs import JobProgress

_SECONDS_TO_STOP = 8.0
_SECONDS_BETWEEN_LOOKS = 0.1


class WorkerDiedError(SamPluginsError):
    """The process of a job ended without a word."""


def in_process(
    function: Callable[..., object],
    *args: object,
    progress: JobProgress,
    **keywords: object,
) -> Any:  # noqa: ANN401
    """Run a function in a process of its own, from the thread of a job.

    Parameters
    ----------
    function : callable
        Of a module; called with ``args``, ``keywords`` and a ``progress``. All of them, the result
        and what is handed over are pickled.
    progress : JobProgress
        Of the job: reports go to it, and cancelling reaches the process.

    Raises
    ------
    JobCancelled
        If the job was cancelled and the function had nothing to return.
    WorkerDiedError
        If the process ended without a word, killed by the system, for instance.
    Exception
        Whatever the function raised.
    """
    from sam_plugins.napari_plugin.jobs import JobCancelled

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        heard: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        listener = threading.Thread(
            target=_listen, args=(process.stdout, heard), name="sam-plugins: worker", daemon=True
        )
        listener.start()
        cancelled_at: float | None = None
        try:
            pickle.dump((function, args, keywords), process.stdin)
            process.stdin.flush()
            while True:
                if progress.is_cancelled and cancelled_at is None:
                    cancelled_at = time.monotonic()
                    process.stdin.close()  # the end of what it hears ends it
                if cancelled_at and time.monotonic() - cancelled_at > _SECONDS_TO_STOP:
                    raise JobCancelled
                try:
                    kind, value = heard.get(timeout=_SECONDS_BETWEEN_LOOKS)
                except queue.Empty:
                    continue
                if kind == "result":
                    return value
                if kind == "error":
                    raise value
                if kind == "cancelled":
                    raise JobCancelled
                if kind == "died":
                    raise WorkerDiedError(
                        f"the process that did the work ended (exit code {process.wait()}); memory "
                        "may have run out: close other programs, or choose a smaller model"
                    )
                if kind == "partial":
                    progress.hand_over(value)
                elif not progress.is_cancelled:
                    progress(*value)
        finally:
            process.kill()
            listener.join(1.0)


def _listen(stream: BinaryIO, heard: queue.SimpleQueue[tuple[str, Any]]) -> None:
    """Take down what the process says, to its end."""
    try:
        while True:
            heard.put(pickle.load(stream))  # noqa: S301 - from our own process
    except (EOFError, OSError, ValueError, pickle.UnpicklingError):
        heard.put(("died", None))


def main() -> None:
    """Do what is asked on the standard input, and answer on the standard output."""
    from sam_plugins.napari_plugin.jobs import JobCancelled, JobProgress, working_for

    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print goes elsewhere
    lock = threading.Lock()

    def say(kind: str, value: object) -> None:
        with lock:
            pickle.dump((kind, value), answers)
            answers.flush()

    function, args, keywords = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the window
    progress = JobProgress(say)

    def wait_for_the_end() -> None:
        sys.stdin.buffer.read()
        progress.cancel()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    try:
        with working_for(progress):
            result = function(*args, progress=progress, **keywords)
        say("result", result)
    except JobCancelled:
        say("cancelled", None)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told in the window
        say("error", _portable(error))


def _portable(error: Exception) -> Exception:
    """Return an error that arrives whole; others arrive as what they say."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - classes fail at this in many ways
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


if __name__ == "__main__":
    main()
