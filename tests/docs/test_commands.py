"""What the pages tell people to type exists: commands, options, make targets, extras, settings."""

from __future__ import annotations

import argparse
import re
import tomllib
from collections.abc import Iterator
from functools import cache

import pytest
from tests.docs.pages import REPOSITORY, Block, blocks, commands, page_paths, spans

from sam_plugins.cli.app import build_parser
from sam_plugins.cli.arguments import joined_negatives
from sam_plugins.labelstudio_backend.settings import Settings

OTHERS = {
    "cd", "cp", "dask", "docker", "echo", "export", "label-studio", "napari", "pytest", "source",
}  # fmt: skip
"""Programs of other people; what they are given is not checked."""

TYPED = [
    pytest.param(words, id=f"{where}: {' '.join(words[:4])}")
    for block in blocks("console", "sh", "bash")
    for where, words in commands(block)
]
NAMED = sorted({(page, span) for page, span in spans() if span.startswith("sam-plugins ")})
REFERENCE = REPOSITORY / "docs" / "reference" / "command-line.md"
_OPTION = re.compile(r"(?<![\w-])--?[a-z][-a-z0-9]*")


def read(path: str) -> str:
    return (REPOSITORY / path).read_text("utf-8")


@cache
def the_parser() -> argparse.ArgumentParser:
    return build_parser()


def parse(words: list[str]) -> argparse.Namespace:
    """Parse the words behind ``sam-plugins`` as the command does; argparse exits on mistakes."""
    return the_parser().parse_args(joined_negatives(words))


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= action.choices
    return found


def parser_of(words: list[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """Return the parser that leading words lead to, and the words that are left."""
    parser = the_parser()
    while words and words[0] in subcommands(parser):
        parser, words = subcommands(parser)[words[0]], words[1:]
    return parser, words


def ways_of(parser: argparse.ArgumentParser) -> list[set[str]]:
    """Return the options of a command, each with all ways to write it."""
    return [{*action.option_strings} for action in parser._actions if action.option_strings]


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """Return all ways to write the options of a command."""
    return {name for way in ways_of(parser) for name in way}


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield every command that does something."""
    below = subcommands(parser)
    if not below:
        yield parser
    for one in below.values():
        yield from leaves(one)


@cache
def extras() -> set[str]:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    return {*project["optional-dependencies"]}


@cache
def targets() -> set[str]:
    return {*re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE)}


def require_script(words: list[str]) -> None:
    """Check ``python benchmarks/NAME.py`` and ``python -m benchmarks.NAME``, and their options."""
    if words[:2] == ["-m", "venv"]:
        return
    path = words[1].replace(".", "/") + ".py" if words[0] == "-m" else words[0]
    source = read(path)
    missing = [w for w in words[1:] if re.fullmatch(r"--[a-z-]+", w) and f'"{w}"' not in source]
    assert not missing, f"{path} has no {missing}"


@pytest.mark.parametrize("words", TYPED)
def test_a_command_of_a_page_is_understood(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    program, rest = words[0].rpartition("/")[2], words[1:]
    if program == "sam-plugins":
        try:
            parse(rest)
        except SystemExit:
            pytest.fail(capsys.readouterr().err)
        parser, _ = parser_of(rest)  # argparse takes abbreviations too
        typed = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert typed <= options_of(parser)
    elif program == "make":
        assert {word for word in rest if "=" not in word} <= targets()
    elif program in {"python", "python3"}:
        require_script(rest)
    elif program == "pip":
        named = re.findall(r"(?:sam-plugins|\.)\[([a-z,]+)\]", " ".join(rest))
        assert {extra for one in named for extra in one.split(",")} <= extras()
    else:
        assert program in OTHERS


def test_a_command_that_does_not_exist_is_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    text = "$ sam-plugins segment a.tif -o x/ \\\n    --tiles 512 > log || echo no  # why\nx is y\n"
    found = list(commands(Block("page", 7, "console", text)))
    typed = ["sam-plugins", "segment", "a.tif", "-o", "x/", "--tiles", "512"]
    assert found == [("page:7", typed), ("page:7", ["echo", "no"])]
    with pytest.raises(SystemExit):
        parse(typed[1:])
    assert "unrecognized arguments: --tiles" in capsys.readouterr().err


@pytest.mark.parametrize(("page", "span"), NAMED)
def test_a_command_between_the_blocks_exists(page: str, span: str) -> None:
    words = span.split()[1:]
    parser, rest = parser_of(words)
    assert len(rest) < len(words) or {*words} & {"COMMAND", "--help"}, f"{page}: no such command"
    if parser.get_default("run") is None:  # a group of commands, such as `engine ACTION PROJECT`
        assert not rest or re.fullmatch(r"[A-Z]+|--help", rest[0])
    known = {option for one in leaves(parser) for option in options_of(one)}
    assert {*_OPTION.findall(span)} <= known | {"--help"}, page


def test_an_option_between_the_blocks_exists() -> None:
    ours = {name for parser in leaves(the_parser()) for name in options_of(parser)}
    scripts = "".join(path.read_text("utf-8") for path in (REPOSITORY / "benchmarks").glob("*.py"))
    elsewhere = {"--scheduler-file"}  # dask
    named = {
        (page, option)
        for page, span in spans()
        for option in _OPTION.findall(span)
        if option.startswith("--") and not span.startswith("sam-plugins ")
    }
    unknown = [
        one for one in sorted(named)
        if one[1] not in ours | elsewhere and f'"{one[1]}"' not in scripts
    ]  # fmt: skip
    assert len(named) > 50
    assert not unknown


def reference_sections() -> dict[str, str]:
    """Return what the reference says of each command."""
    parts = re.split(r"^## `?([a-z]+)`?.*$", REFERENCE.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("command", sorted({*subcommands(the_parser())} - {"info"}))
def test_the_reference_names_every_option_and_no_other(command: str) -> None:
    section = reference_sections()[command]
    code = " ".join(re.findall(r"`([^`]+)`", section))
    said = {*_OPTION.findall(code)}
    top = subcommands(the_parser())[command]
    nameless = [name for name in subcommands(top) if not re.search(rf"\b{name}\b", code)]
    assert not nameless, "actions that the reference does not name"
    ways = [way for one in leaves(top) for way in ways_of(one)]
    unknown = said - {name for way in ways for name in way} - {"--help"}
    assert not unknown - _of_other_commands(section), "options that do not exist"
    if command == "engine":  # "`--help` names its options"
        ways = [
            w for name, one in subcommands(top).items() if name != "simulate" for w in ways_of(one)
        ]
    unsaid = [way for way in ways if not way & (said | {"--help"})]
    assert not unsaid, "options that the reference does not name"


def _of_other_commands(section: str) -> set[str]:
    """Return the options of commands that are written out, such as `segment --no-tiles`."""
    named = re.findall(r"`(?:sam-plugins )?([a-z]+ [^`]*--[^`]*)`", section)
    return {option for span in named for option in _OPTION.findall(span)}


def test_settings_of_the_pages_are_read_somewhere() -> None:
    text = "".join(path.read_text("utf-8") for path in page_paths())
    named = {*re.findall(r"\bSAM_PLUGINS_[A-Z_]+[A-Z]\b", text)}
    read_by = "".join(path.read_text("utf-8") for path in (REPOSITORY / "src").rglob("*.py"))
    read_by += read("tests/conftest.py")
    backend = {f"SAM_PLUGINS_LS_{name.upper()}" for name in Settings.model_fields}
    assert "SAM_PLUGINS_LS_URL" in named & backend
    assert not {name for name in named - backend if f'"{name}"' not in read_by}


def test_every_setting_of_the_backend_is_in_the_table_of_settings() -> None:
    table = read("docs/how-to/label-studio-operations.md").partition("## One process")[0]
    named = {*re.findall(r"`([A-Z_]+)`", table)}
    ours = {name for name in named if not name.startswith("SAM_PLUGINS_")}
    assert {name.upper() for name in Settings.model_fields} == ours
