"""The real command against closed streams, full disks, pipes, limits of memory and signals."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.cli.helpers import RESULTS_OF_A, RunSegment, names

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a shell, signals and /dev")

COMMAND = f"{shlex.quote(sys.executable)} -m sam_plugins"


def in_shell(line: str, *, is_buffered: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which ``{}`` is the command."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "" if is_buffered else "1"}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line.replace("{}", COMMAND)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("is_buffered", [True, False])
def test_a_full_disk_behind_standard_output(is_buffered: bool) -> None:
    done = in_shell("{} models list > /dev/full", is_buffered=is_buffered)
    assert done.returncode == 1
    assert done.stderr == (
        "sam-plugins: error: cannot write to standard output: No space left on device; redirect "
        "it to another place\n"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_help_that_cannot_be_written() -> None:
    done = in_shell("{} --help > /dev/full")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_standard_output_that_is_closed() -> None:
    done = in_shell("{} models list >&-")
    assert done.returncode == 1
    assert done.stderr == (
        "sam-plugins: error: cannot write to standard output: it is closed; redirect it to a file\n"
    )


def test_standard_error_that_is_closed() -> None:
    done = in_shell("{} models show no-such-model 2>&-")
    assert (done.returncode, done.stdout) == (1, "")


def test_no_file_of_ours_takes_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    code = (
        "import sys; from sam_plugins.cli import app\n"
        f"def run(_):\n    print(open({str(opened)!r}, 'w').fileno(), file=sys.stderr)\n"
        "    return 0\n"
        "app.info.run = run\n"
        "sys.exit(app.main(['info']))"
    )
    done = in_shell(f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} >&- <&-")
    assert int(done.stderr) > 2


@pytest.mark.parametrize("asked", ["models list", "--help"])
def test_a_reader_that_left(asked: str) -> None:
    done = in_shell(f"{{}} {asked} | true")
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space")
@pytest.mark.parametrize("kilobytes", [60_000, 120_000, 300_000, 600_000, 999_999])
def test_too_little_memory_to_start(kilobytes: int) -> None:
    done = in_shell(f"ulimit -v {kilobytes}; {{}} info --json")
    assert done.returncode == 1
    assert done.stderr == (
        "sam-plugins: error: memory ran out before the start: this process may use "
        f"{kilobytes} kB (ulimit -v), PyTorch alone needs 1000000 kB; allow it more\n"
    )
    assert json.loads(done.stdout)["error"].startswith("memory ran out")


STUCK = """
import signal, sys, time
from pathlib import Path
from sam_plugins.cli import app
from sam_plugins.model.io.together import files_together

def run(_):
    out = Path(sys.argv[1])
    with files_together([out / "first", out / "second"]) as paths:
        paths[0].write_text("half")
        (out.parent / "started").touch()
        time.sleep(60)
    return 0

app.info.run = run
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it, for its children too
sys.exit(app.main(["info"]))
"""


def start_stuck(out: Path) -> subprocess.Popen[str]:
    """Start a command that has written one of two files, and waits."""
    out.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK, str(out)], stderr=subprocess.PIPE, text=True
    )
    started = out.parent / "started"
    while not started.exists():
        assert process.poll() is None
        time.sleep(0.02)
    started.unlink()
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_order_to_end_cleans_up(out: Path, number: signal.Signals, code: int) -> None:
    process = start_stuck(out)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert err == "sam-plugins: interrupted; every file that was written is complete\n"
    assert names(out) == []


def test_what_a_killed_process_leaves_is_swept_by_the_next(
    run_segment: RunSegment, out: Path, pictures: Path
) -> None:
    process = start_stuck(out)
    (leftover,) = names(out)
    assert run_segment(pictures / "a.png") == 0
    assert names(out) == [leftover, *RESULTS_OF_A]  # its process lives
    process.kill()
    process.communicate(timeout=30)
    assert names(out) == [leftover, *RESULTS_OF_A]
    assert run_segment(pictures / "a.png") == 0
    assert names(out) == RESULTS_OF_A


TERMINAL = """
import os, pty, sys
process, terminal = pty.fork()
if process == 0:
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
while True:
    try:
        data = os.read(terminal, 1024)
    except OSError:
        break
    if not data:
        break
    sys.stdout.write(data.decode(errors="replace"))
"""
STEPS = """
import time
from sam_plugins.cli.console import step_progress
with step_progress("picture") as progress:
    for done in range(1, 6):
        time.sleep(0.15)
        progress(done, 5)
"""


def test_a_terminal_without_a_size_shows_progress() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TERMINAL, STEPS], capture_output=True, text=True, check=True
    )
    assert "picture:  60%" in done.stdout
