"""What the core says in Python, in the words of the command line.

The core has several front ends and names its own arguments. Here, at the one edge where its
messages become text on a terminal, they become options. Every line has a test that reaches the
message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_MAPPING = re.compile(r"channels=\{([^}]*)\}")
_WORDS: tuple[tuple[re.Pattern[str], str], ...] = (
    # Commands that show a picture say so themselves; others have no --axes.
    (re.compile(r", or say that these are channels, with axes='\w+'"), ""),
    (re.compile(r"\b(axes|mode)=(['\"])(\w+)\2"), r"--\1 \3"),
    (re.compile(r"\bmode \"(\w+)\""), r"--mode \1"),
    (re.compile(r"\bcorrect axes="), "correct --axes"),
    (re.compile(r"\bchannels must use the colours"), "--channels must use the colours"),
    (
        re.compile(
            r"limits must be \(low, high\) or one such pair for each of the (\d+) shown channels, "
            r"got shape \((\d+), 2\)"
        ),
        r"--limits must be given once, or once for each of the \1 shown channels, got \2",
    ),
    (
        re.compile(r"(?<!of the prompts: )(?<![\"'])\bpoints_xy\b(?![\"'])"),
        "--point and --negative",
    ),
    (re.compile(r"(?<!of the prompts: )\bboxes_xyxy\b"), "--box"),
    (re.compile(r"choose one plane, such as ([\w=,]+)"), r"choose one, such as --plane \1"),
    (re.compile(r"name the axes, such as ([\w=,]+)"), r"name the axes, such as --plane \1"),
    (
        re.compile(r"choose other sets, or give volume_step to take planes of volumes"),
        "choose other --sets, or save planes of volumes as pictures",
    ),
    (re.compile(r"\bchoose sets=(\S+)"), r"choose the set with --sets \1"),
    (re.compile(r"choose the split (?=\w)"), "choose --split "),
    (re.compile(r"\bpromote it by force\b"), "promote it with --force"),
    (re.compile(r"\bdelete it by force\b"), "delete it with --force"),
    (re.compile(r"\bby tiles with segment_large\b"), "by tiles with --tile 512"),
    (re.compile(r"\bwith overwrite=True"), "with --overwrite"),
    (re.compile(r"\bbatch_size=(\d+) needs"), r"--batch-size \1 needs"),
    (re.compile(r"; choose a work folder on another disk"), "; choose another disk with --work"),
    (re.compile(r"\ballow the download with download=True"), "download it with --download-clip"),
    (
        re.compile(r"rank its masks by words with find_by_text, ask with a point or a box, or"),
        "leave out --point and --negative, and its masks are ranked by words, or",
    ),
    (re.compile(r", or ask with fewer points \(options\.points_per_side\)"), ""),
    (re.compile(r"; leave the level out$"), "; leave out --level"),
    (re.compile(r"\bpred_iou_thresh="), "--min-iou "),
    (re.compile(r"\bstability_score_thresh="), "--min-stability "),
    (re.compile(r"\bchunk_size=\d+ needs a quarter of it"), "crop the picture or reduce it"),
)


def in_options(message: str) -> str:
    """Return a message with the options that a user can type in place of Python's arguments.

    Examples
    --------
    >>> in_options('say which channels to show, such as channels={"red": 0, "green": 2}')
    'say which channels to show, such as --channels red=0,green=2'
    """
    message = _MAPPING.sub(_typed_mapping, message)
    for pattern, words in _WORDS:
        message = pattern.sub(words, message)
    return message


def with_options(message: str, options: Mapping[str, str]) -> str:
    """Return what is wrong with values, each by the option that it was given with.

    Parameters
    ----------
    message : str
        What is expected, then ``", got"`` and values.
    options : mapping of str to str
        Options, by the names that Python has for their values.

    Examples
    --------
    >>> with_options("held_out_share must lie in [0, 1), got 2", {"held_out_share": "--held-out"})
    '--held-out must lie in [0, 1), got 2'
    """
    expected, got, values = message.partition(", got ")
    expected = re.sub(r"\w+", lambda word: options.get(word[0], word[0]), expected)
    return expected + got + values


def _typed_mapping(found: re.Match[str]) -> str:
    """Return a mapping of channels as it is typed."""
    pairs = re.findall(r"[\"'](\w+)[\"']: (\w+)", found[1])
    return f"--channels {','.join(f'{colour}={channel}' for colour, channel in pairs)}"
