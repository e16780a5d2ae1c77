"""How much memory there is, with made-up files of the system."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import SafetensorError

from sam_plugins.errors import DownloadError, MemoryLimitError, is_out_of_memory
from sam_plugins.model.inference import memory

GIB = 1 << 30


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write what the system tells: files of a cgroup, and 16 GiB free on the machine."""
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_own_limits", list)
    (tmp_path / "meminfo").write_text(
        f"MemTotal: {32 * GIB // 1024} kB\nMemAvailable:   {16 * GIB // 1024} kB\n"
    )

    def write(folder: str = ".", **files: str) -> None:
        (tmp_path / folder).mkdir(exist_ok=True)
        for name, content in files.items():
            (tmp_path / folder / name.replace("__", ".")).write_text(content)

    return write


def statistics(prefix: str = "", active: int = 0, inactive: int = 0) -> str:
    return (
        f"anon {GIB}\nfile 7\n{prefix}inactive_anon 5\n{prefix}inactive_file {inactive}\n"
        f"{prefix}active_file {active}\nworkingset_activate_file 99999999999\n"
    )


def test_a_machine_without_containers(system: Callable[..., None]) -> None:
    assert memory.available_bytes() == 16 * GIB


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path / "none")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "none")
    monkeypatch.setattr(memory, "_own_limits", list)
    assert memory.available_bytes() is None
    memory.require_memory(1 << 60, "everything", lambda free: f"{free}")


def test_a_container_of_version_2_without_its_file_cache(system: Callable[..., None]) -> None:
    system(
        memory__max=f"{4 * GIB}\n",
        memory__current=f"{4 * GIB - 4096}\n",
        memory__stat=statistics(active=GIB, inactive=2 * GIB),
    )
    assert memory.available_bytes() == 3 * GIB + 4096


def test_a_container_of_version_1_without_its_file_cache(system: Callable[..., None]) -> None:
    system(
        "memory",
        memory__limit_in_bytes=f"{4 * GIB}\n",
        memory__usage_in_bytes=f"{3 * GIB}\n",
        # Without the prefix: only the group itself, not those within it.
        memory__stat=statistics() + statistics("total_", active=GIB // 2, inactive=GIB),
    )
    assert memory.available_bytes() == 2.5 * GIB


@pytest.mark.parametrize(
    ("folder", "limit", "used"),
    [
        (".", "memory__max", "memory__current"),
        ("memory", "memory__limit_in_bytes", "memory__usage_in_bytes"),
    ],
)
def test_containers_without_statistics_and_full_ones(
    system: Callable[..., None], folder: str, limit: str, used: str
) -> None:
    system(folder, **{limit: f"{4 * GIB}", used: f"{GIB}"})
    assert memory.available_bytes() == 3 * GIB
    system(folder, **{used: f"{5 * GIB}"})
    assert memory.available_bytes() == 0
    prefix = "" if folder == "." else "total_"
    system(folder, **{used: "4096"}, memory__stat=statistics(prefix, active=GIB))
    assert memory.available_bytes() == 4 * GIB


def test_containers_without_a_limit(system: Callable[..., None]) -> None:
    system(memory__max="max\n", memory__current=f"{GIB}\n")
    system(
        "memory", memory__limit_in_bytes="9223372036854771712\n", memory__usage_in_bytes=f"{GIB}\n"
    )
    assert memory.available_bytes() == 16 * GIB


def test_the_refusal_says_what_is_free(system: Callable[..., None]) -> None:
    system(memory__max=f"{GIB}", memory__current="0")
    with pytest.raises(
        MemoryLimitError, match=r"^it would need 2\.1 GB of memory, 1\.1 GB are free; crop$"
    ):
        memory.require_memory(2 * GIB, "it", lambda _: "crop")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space")
@pytest.mark.parametrize("option", ["-v", "-d"])
def test_a_limit_of_the_shell_counts(option: str) -> None:
    code = "from sam_plugins.model.inference import memory; print(memory.available_bytes())"
    limit = 800_000 * 1024
    done = subprocess.run(
        ["bash", "-c", f'ulimit {option} 800000; exec "$0" -c "$1"', sys.executable, code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert 0 < int(done.stdout) < limit - 4e6  # Python itself takes some of it


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("could not create a primitive"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        OSError(22, "The paging file is too small for this operation to complete"),
        SafetensorError("The paging file is too small for this operation (os error 1455)"),
    ],
)
def test_the_ways_in_which_memory_runs_out(error: Exception) -> None:
    assert is_out_of_memory(error)
    if isinstance(error, RuntimeError | MemoryError):
        with (
            pytest.raises(MemoryLimitError, match=r"^it ran out of memory.*; crop$"),
            memory.memory_limits("it", lambda: "crop"),
        ):
            raise error


def test_what_onednn_says_has_other_causes_as_well() -> None:
    message = r"^it ran out of memory.*, or oneDNN failed for another reason; crop$"
    with (
        pytest.raises(MemoryLimitError, match=message),
        memory.memory_limits("it", lambda: "crop"),
    ):
        raise RuntimeError("could not create a primitive")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shapes differ"),
        ImportError("no such module"),
        OSError(2, "no file"),
        OSError(2, "No such file or directory", "out of memory.png"),
        DownloadError("cannot fetch out of memory.pth"),
    ],
)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    assert not is_out_of_memory(error)
    with pytest.raises(type(error), match=str(error)[:9]), memory.memory_limits("it", str):
        raise error
