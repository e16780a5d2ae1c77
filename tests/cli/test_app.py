"""The parser, its exit codes, and how fast it starts."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sam_plugins import __version__
from sam_plugins.cli import app, main
from sam_plugins.cli.arguments import joined_negatives
from sam_plugins.cli.console import in_bytes, say, table
from sam_plugins.cli.evaluation_tasks import TASKS

MODEL_ACTIONS = ("list", "download", "show", "convert")
ENGINE_ACTIONS = (
    "init", "import", "next", "label", "train", "promote", "run-auto", "status", "export"
)  # fmt: skip
HEAVY = ("torch", "numpy", "scipy", "PIL", "tifffile", "zarr", "tqdm", "skimage")


def run_fresh(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sam_plugins", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_version() -> None:
    done = run_fresh("--version")
    assert (done.returncode, done.stdout) == (0, f"sam-plugins {__version__}\n")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, json\n"
        "from sam_plugins.cli import main\n"
        "try:\n    main(['segment', '--help'])\n"
        "except SystemExit:\n    pass\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["dance"], r"invalid choice: 'dance'"),
        (["models"], "the following arguments are required: ACTION"),
        (["segment", "a.png"], "the following arguments are required: -o/--output"),
        (["segment", "", "-o", "results"], "an argument is empty"),
        (["segment", "cells.tif", "-o", ""], "an argument is empty"),
    ],
)
def test_wrong_usage_leaves_with_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == app.EXIT_USAGE
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "message", "command"),
    [
        ([], "the following arguments are required: COMMAND", "sam-plugins"),
        (["segment", "a.png"], "the following arguments are required: -o/--output", "segment"),
        (
            ["segment", "a.png", "-o", "x", "--nothing"],
            "unrecognized arguments: --nothing",
            "segment",
        ),
        (
            ["segment", "a.png", "-o", "x", "--negative", "1,2"],
            "--negative needs a --point or a --box that says what is meant",
            "segment",
        ),
        (["models", "show"], "the following arguments are required: MODEL", "models show"),
        (["models", "list", "--nothing"], "unrecognized arguments: --nothing", "models list"),
        (
            ["models", "convert", "default", "-o", "a.pt"],
            "--output must end in .safetensors, got a.pt",
            "models convert",
        ),
        (["evaluate", "clicks"], "the following arguments are required: --data", "evaluate clicks"),
    ],
)
def test_wrong_usage_is_not_buried_under_the_usage(
    arguments: list[str], message: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == app.EXIT_USAGE
    said = capsys.readouterr()
    prog = command if command == "sam-plugins" else f"sam-plugins {command}"
    assert said.err == f"sam-plugins: error: {message}\nsam-plugins: see `{prog} --help`\n"
    assert said.out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dance", "--json"], "invalid choice: 'dance'"),
        (["segment", "a.png", "--json"], "the following arguments are required: -o/--output"),
        (["train", "pictures", "--json"], "the following arguments are required: --name"),
        (["info", "--json", "--nothing"], "unrecognized arguments: --nothing"),
        (["segment", "--json", "", "-o", "results"], "an argument is empty"),
    ],
)
def test_wrong_usage_is_said_as_json_too(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == app.EXIT_USAGE
    said = capsys.readouterr()
    assert message in json.loads(said.out)["error"]
    assert message in said.err


def test_every_command_has_a_description(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("segment", "models", "evaluate", "pretrain", "distill", "info", "demo"):
        with pytest.raises(SystemExit) as left:
            main([command, "--help"])
        assert left.value.code == 0
        assert "usage: sam-plugins" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [
        *("segment", "demo", "pretrain", "distill", "info"),
        *(f"evaluate {task.name}" for task in TASKS),
        *(f"models {action}" for action in MODEL_ACTIONS),
        *(f"engine {action}" for action in ENGINE_ACTIONS),
    ],
)
def test_every_option_is_in_the_reference(
    command: str, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    options = set(re.findall(r"(?<!\w)--[a-z]+(?:-[a-z]+)*", capsys.readouterr().out))
    page = (repository / "docs" / "reference" / "command-line.md").read_text("utf-8")
    group, _, _ = command.partition(" ")
    section = page.partition(f"## `{group}`")[2].partition("\n## ")[0] or page
    named_by_letter = {"--help", "--output"}
    assert not [option for option in options - named_by_letter if option not in section]


def test_every_command_with_a_model_says_which_device_it_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for command in (["segment"], ["evaluate", "edges"], ["pretrain"], ["distill"], ["demo"]):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        shown = " ".join(capsys.readouterr().out.split())
        assert "(the first CUDA GPU, or the CPU where there is none)" in shown


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["--limits", "-160,240"], ["--limits=-160,240"]),
        (["--limits", "-.5,1", "--point", "-1,-2"], ["--limits=-.5,1", "--point=-1,-2"]),
        (["--limits=-1,2", "-3,4"], ["--limits=-1,2", "-3,4"]),
        (["--max-objects", "-3"], ["--max-objects", "-3"]),
        (["--json", "-o", "a,b"], ["--json", "-o", "a,b"]),
        (["a.png", "-1,2"], ["a.png", "-1,2"]),
        (["--", "--limits", "-1,2"], ["--", "--limits", "-1,2"]),
    ],
)
def test_lists_that_begin_with_a_minus(typed: list[str], expected: list[str]) -> None:
    assert joined_negatives(typed) == expected


def replace_info(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    monkeypatch.setattr(app.info, "run", run)


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    replace_info(monkeypatch, interrupted)
    assert main(["info"]) == app.EXIT_INTERRUPTED
    assert "interrupted; every file that was written is complete" in capsys.readouterr().err


def test_warnings_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def warn(_: object) -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("the disk is\nfull", UserWarning, stacklevel=2)
        return 0

    replace_info(monkeypatch, warn)
    assert main(["info"]) == 0
    assert capsys.readouterr().err == "sam-plugins: warning: the disk is full\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell's pipe and head")
def test_a_reader_that_leaves_is_no_traceback() -> None:
    code = (
        "import sys\n"
        "from sam_plugins.cli import app\n"
        "def run(_):\n"
        "    for _ in range(100000):\n"
        "        print('line')\n"
        "    return 0\n"
        "app.info.run = run\n"
        "sys.exit(app.main(['info']))"
    )
    piped = f'{sys.executable} -c "$CODE" | head -1'
    done = subprocess.run(
        ["bash", "-c", piped],
        env={"CODE": code, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "line\n"
    assert done.stderr == ""


def test_tables_and_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    assert table([]) == ""
    assert table([{"a": "1", "bb": "22"}, {"a": "333", "bb": ""}]).splitlines() == [
        "A    BB",
        "1    22",
        "333",
    ]
    assert [in_bytes(n) for n in (0, 999, 1000, 5 * 10**6, 3 * 10**9)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "5.0 MB",
        "3.0 GB",
    ]
    say("text")
    assert capsys.readouterr().out == "text\n"


def test_help_is_written_for_a_terminal() -> None:
    def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
        yield parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for below in action.choices.values():
                    yield from parsers(below)

    for parser in parsers(app.build_parser()):
        assert "``" not in parser.format_help(), parser.prog
        assert parser.description is None or parser.description[0].isupper(), parser.prog


def test_abbreviated_options_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["models", "list", "--js"])
    assert "unrecognized arguments: --js" in capsys.readouterr().err


def test_a_file_that_looks_like_an_option_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-dash.png").touch()
    with pytest.raises(SystemExit, match="2"):
        main(["segment", "-dash.png", "-o", "out"])
    assert "-dash.png is a file: name it ./-dash.png" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["segment", "-o", "out"])
    assert "is a file" not in capsys.readouterr().err
