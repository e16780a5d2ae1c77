"""``--scheduler``: the same commands on one process, on several, or on a cluster."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sam_plugins.cli.console import (
    collected,
    complain,
    counted_progress,
    pass_on,
    with_progress,
)

if TYPE_CHECKING:
    from sam_plugins.model.cluster.outcome import Function, Kept, Outcome, Runner

Item = TypeVar("Item")
Value = TypeVar("Value")


def add_option(parser: argparse.ArgumentParser, many: str) -> None:
    """Add the option.

    Parameters
    ----------
    parser : ArgumentParser
    many : str
        What there are many of, such as ``"pictures"``.
    """
    group = parser.add_argument_group("several processes and machines (extra: scale)")
    group.add_argument(
        "--scheduler", type=_scheduler, metavar="WHERE",
        help="none: one after the other in this process; local: a process for each core; the "
        "address of a Dask scheduler (tcp://node7:8786) or its scheduler file: on its workers "
        f"(local for 32 {many} or more on a CPU of several cores where the extra is installed, "
        "otherwise none)",
    )  # fmt: skip
    group.add_argument(
        "--workers", type=_workers, metavar="N",
        help="processes of --scheduler local (one a core, as far as there are 2 GiB for each)",
    )  # fmt: skip


def chosen(args: argparse.Namespace, count: int) -> str:
    """Return the scheduler for so many tasks."""
    from sam_plugins.model.cluster.choice import LOCAL, choose_scheduler

    wanted = args.scheduler or (LOCAL if args.workers else None)
    return choose_scheduler(wanted, count, lambda: _is_on_cpu(args.device))


@contextmanager
def opened(
    args: argparse.Namespace,
    count: int,
    *,
    files: Iterable[Path] = (),
    folder: Path | None = None,
    split: Callable[[], int] | None = None,
) -> Iterator[Runner]:
    """Open what runs the tasks of a command; says where the cluster and its dashboard are.

    Where there are no tasks, no cluster is started or asked for.

    ``split`` returns into how many tasks the items can be divided; it is asked where there are
    fewer items than processes to keep busy.
    """
    from sam_plugins.model.cluster.choice import LOCAL, NONE, usable_cores
    from sam_plugins.model.cluster.opening import open_runner

    scheduler = chosen(args, count) if count else NONE
    if split and scheduler == LOCAL and count < (args.workers or usable_cores()):
        count = split()
    with open_runner(
        scheduler, count, files=files, folder=folder, workers=args.workers, tell=complain
    ) as runner:
        yield runner


def performed(
    runner: Runner,
    function: Function[Item, Value],
    items: Sequence[Item],
    unit: str,
    *,
    ordered: bool = False,
) -> Generator[Outcome[Item, Value], None, None]:
    """Yield the outcome of each item, with a progress bar; what workers say is said here."""
    from sam_plugins.model.cluster.outcome import Outcome

    if not runner.is_distributed:
        # Here the bar moves with what is begun, and steps draw bars of their own.
        yield from runner.run(function, with_progress(items, unit))
        return
    outcomes = runner.run(_Quiet(function), items, ordered=ordered)
    for outcome in _counted(outcomes, len(items), unit):
        if outcome.error is not None:  # lost with its worker
            yield Outcome(outcome.index, outcome.item, error=outcome.error)
            continue
        said = outcome.result()
        pass_on(said.lines)
        yield Outcome(outcome.index, outcome.item, said.value, said.error)


def absolute(name: Any) -> Any:  # noqa: ANN401
    """Return a path, or the name of a file here, so that it means the same in another folder.

    Within tuples, lists and the fields of dataclasses, too.
    """
    if isinstance(name, Path):
        return Path(os.path.abspath(name))  # noqa: PTH100
    if isinstance(name, str):
        return os.path.abspath(name) if name and Path(name).is_file() else name  # noqa: PTH100
    if isinstance(name, tuple | list):
        return type(name)(absolute(one) for one in name)
    return name


def with_absolute_paths(item: Item) -> Item:
    """Return a dataclass whose paths mean the same in another folder."""
    paths = {
        one.name: absolute(value)
        for one in fields(item)  # type: ignore[arg-type]
        if isinstance(value := getattr(item, one.name), Path | tuple)
    }
    return replace(item, **paths)  # type: ignore[type-var]


@dataclass(frozen=True)
class _Said(Generic[Value]):
    """What a task returned or raised, and what it said."""

    value: Value | None
    error: Exception | None
    lines: list[str]


@dataclass(frozen=True)
class _Quiet(Generic[Item, Value]):
    """A task whose lines come back with what it returns."""

    function: Function[Item, Value]

    def __call__(self, kept: Kept, item: Item) -> _Said[Value]:
        """Run it."""
        from sam_plugins.model.cluster.outcome import attempt, portable

        with collected() as lines:
            outcome = attempt(self.function, kept, 0, item)
        error = None if outcome.error is None else portable(outcome.error)
        return _Said(outcome.value, error, lines)


def _counted(outcomes: Iterator[Value], total: int, unit: str) -> Iterator[Value]:
    """Yield outcomes with a progress bar on a terminal, or lines in a log."""
    with counted_progress(total, unit) as advance:
        for outcome in outcomes:
            advance()
            yield outcome


def _is_on_cpu(device: str | None) -> bool:
    """Return whether the model would work on the CPU; asks PyTorch only where nobody said."""
    if device is not None:
        return device == "cpu"
    import torch

    return not torch.cuda.is_available()


def _scheduler(text: str) -> str:
    """Return a checked name of a scheduler."""
    from sam_plugins.model.cluster.choice import parse_scheduler

    try:
        return parse_scheduler(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _workers(text: str) -> int:
    """Return a number of processes."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text!r}")
    return int(text)
