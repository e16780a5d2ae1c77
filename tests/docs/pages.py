"""The pages as a reader meets them: blocks of code, and what stands in code type between them.

A block that cannot run here says why, in a comment right above it, which a page does not show::

    <!-- not run: needs a Dask scheduler on another machine -->

The blocks of a page share their names, as the cells of a notebook do.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

REPOSITORY = Path(__file__).resolve().parents[2]
_NOT_RUN = re.compile(r"<!--\s*not run:\s*(.*?)\s*-->", re.DOTALL)
_PROMPT = re.compile(r"^\w*\$ ")
_OPERATORS = {"&&", "||", "|", ";"}


@dataclass(frozen=True)
class Block:
    """A block of code.

    Parameters
    ----------
    page : str
        Path of its page from the root of the checkout.
    line : int
        Of the page, where its text begins; the first is 1.
    language : str
        What stands behind the backticks.
    text : str
    not_run : str, optional
        Why it cannot run here, if the page says so.
    """

    page: str
    line: int
    language: str
    text: str
    not_run: str | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def page_paths() -> list[Path]:
    """Return every page that people read, the site's and those of the repository."""
    made = {"_build", "generated"}
    site = [p for p in sorted((REPOSITORY / "docs").rglob("*.md")) if not made & {*p.parts}]
    return [
        REPOSITORY / "README.md",
        REPOSITORY / "CONTRIBUTING.md",
        REPOSITORY / "examples" / "README.md",
        REPOSITORY / "benchmarks" / "README.md",
        *site,
    ]


@cache
def _tokens(path: Path) -> list[Token]:
    return MarkdownIt("commonmark").parse(path.read_text("utf-8"))


@cache
def blocks(*languages: str) -> tuple[Block, ...]:
    """Return the blocks in some languages, in the order of the pages."""
    found = []
    for path in page_paths():
        page = path.relative_to(REPOSITORY).as_posix()
        before: Token | None = None
        for token in _tokens(path):
            if token.type == "fence" and token.info.strip() in languages:
                assert token.map is not None
                said = _NOT_RUN.search(before.content) if before is not None else None
                reason = said.group(1) if said else None
                line = token.map[0] + 2
                found.append(Block(page, line, token.info.strip(), token.content, reason))
            before = token if token.type == "html_block" else None
    return tuple(found)


@cache
def spans() -> tuple[tuple[str, str], ...]:
    """Return each page with each text in code type outside blocks, on one line."""
    found = []
    for path in page_paths():
        page = path.relative_to(REPOSITORY).as_posix()
        inline = [child for token in _tokens(path) for child in token.children or ()]
        found += [(page, " ".join(c.content.split())) for c in inline if c.type == "code_inline"]
    return tuple(found)


def commands(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Yield where each command of a block for the shell stands, and its words.

    In a ``console`` block lines without a prompt are what was answered. Assignments before a
    command, redirections and comments are left out.
    """
    lines = iter(enumerate(block.text.splitlines(), block.line))
    for number, line in lines:
        if block.language == "console":
            if not _PROMPT.match(line):
                continue
            line = _PROMPT.sub("", line)
        while line.endswith("\\"):
            line = line[:-1] + next(lines)[1]
        for words in _simple_commands(line):
            yield f"{block.page}:{number}", words


def _simple_commands(line: str) -> Iterator[list[str]]:
    """Divide a line at its operators."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word not in _OPERATORS:
            words.append(word)
            continue
        if ">" in words:
            words = words[: words.index(">")]
        while words and re.fullmatch(r"[A-Z][A-Z_0-9]*=.*", words[0]):
            words = words[1:]
        if words:
            yield words
        words = []
