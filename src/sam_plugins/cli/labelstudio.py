"""``sam-plugins labelstudio``: the backend of Label Studio, and what a labelling config means."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sam_plugins.cli import labelstudio_doctor, labelstudio_learning
from sam_plugins.cli.console import complain, say, say_json
from sam_plugins.cli.labelstudio_extra import read_settings
from sam_plugins.errors import SamPluginsError

_DESCRIPTION = (
    "A machine learning backend for Label Studio: clicks and boxes become regions while somebody "
    "annotates, and tasks get predictions. Settings are SAM_PLUGINS_LS_... of the environment."
)


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("labelstudio", help="serve Label Studio", description=_DESCRIPTION)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    serve = actions.add_parser("serve", parents=[common], help="start the backend")
    serve.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
    serve.add_argument("--port", type=_port, default=9090, help="default: %(default)s")
    serve.set_defaults(run=run_serve)
    check = actions.add_parser(
        "config-check",
        parents=[common],
        help="explain a labelling config",
        description="Says what prompts of a labelling config are answered with, and what will not "
        "work. Exit code 1 where something will not.",
    )
    check.add_argument(
        "file", metavar="FILE", help="the labelling config as XML; - for standard input"
    )
    check.add_argument("--json", action="store_true", help="print as JSON")
    check.set_defaults(run=run_check)
    prewarm = actions.add_parser(
        "prewarm",
        parents=[common],
        help="prepare all pictures of a project, so that first clicks are quick",
        description="Encodes the pictures of every task into the backend's cache "
        "(SAM_PLUGINS_LS_FOLDER). Run it where the backend runs, with its settings; the backend "
        "may go on meanwhile. Exit code 1 where a picture could not be had.",
    )
    prewarm.add_argument("url", metavar="URL", help="of Label Studio, as this machine reaches it")
    prewarm.add_argument("project", metavar="PROJECT", type=int, help="its number there")
    prewarm.set_defaults(run=run_prewarm)
    labelstudio_learning.add_actions(actions, common)
    labelstudio_doctor.add_action(actions, common)


def _port(text: str) -> int:
    """Return a port."""
    number = int(text)
    if not 1 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"must be 1 to 65535, got {text}")
    return number


def run_serve(args: argparse.Namespace) -> int:
    """Start the backend; return when it is told to end."""
    settings = read_settings()
    from sam_plugins.labelstudio_backend.serving import serve

    serve(args.host, args.port, settings, tell=complain)
    return 0


def run_prewarm(args: argparse.Namespace) -> int:
    """Encode the pictures of a project; return the exit code."""
    return prepare(args.url, args.project, is_json=False)


def prepare(url: str | None, project: int, *, is_json: bool) -> int:
    """Encode the pictures of a project; return the exit code.

    Parameters
    ----------
    url : str, optional
        Of Label Studio; that of the settings by default.
    project : int
        Its number there.
    is_json : bool
        Whether the summary is printed as JSON.
    """
    settings = read_settings(url)
    from sam_plugins.labelstudio_backend.service import Service
    from sam_plugins.labelstudio_backend.whole_project import Prepared, prepare_project

    service = Service(settings)
    last = Prepared(0, 0, 0)
    try:
        for last in prepare_project(service, project):
            if last.problem:
                complain(last.problem)
            elif last.done % 10 == 0 and last.done < last.total:
                complain(f"{last.done} of {last.total} tasks")
    finally:
        service.close()
    if is_json:
        say_json({"tasks": last.total, "prepared": last.done - last.failed, "failed": last.failed})
    else:
        say(f"{last.done - last.failed} of {last.total} tasks are prepared")
    return 1 if last.failed else 0


def run_check(args: argparse.Namespace) -> int:
    """Explain a labelling config; return the exit code."""
    from sam_plugins.labelstudio_backend.config_check import check_config

    report = check_config(_text(args.file))
    if args.json:
        say_json({key: list(value) for key, value in vars(report).items()})
        return 1 if report.problems else 0
    for line in report.means:
        say(f"  {line}")
    for line in report.problems:
        say(f"problem: {line}")
    for line in report.advice:
        say(f"advice: {line}")
    if not report.problems:
        say("everything fits")
    return 1 if report.problems else 0


def _text(name: str) -> str:
    """Return the text of a file or of standard input."""
    try:
        if name == "-":
            return sys.stdin.read()
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise SamPluginsError(f"cannot read {name}: {reason}; check the name") from error
