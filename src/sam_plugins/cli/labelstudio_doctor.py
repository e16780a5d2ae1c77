"""``labelstudio doctor``: why a backend is connected and nothing happens."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from sam_plugins.cli.console import say, say_json
from sam_plugins.cli.labelstudio_extra import read_settings


def add_action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add the action."""
    parser = actions.add_parser(
        "doctor",
        parents=[common],
        help="find out why nothing happens",
        description="Asks Label Studio and the backend about each cause of 'connected, but nothing "
        "happens', and prints the cure. Run it where the backend runs, with its settings "
        "(SAM_PLUGINS_LS_API_KEY, and user and password where it has them). Exit code 1 where "
        "something has to be done.",
    )
    parser.add_argument("url", metavar="URL", help="of Label Studio, as this machine reaches it")
    parser.add_argument("--project", type=int, metavar="N", help="only this project")
    parser.add_argument("--backend", metavar="URL", help="the backend's address in Label Studio")
    parser.add_argument(
        "--repair", action="store_true",
        help="mend what can be mended through the API: connection, webhook and its headers",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.set_defaults(run=run_doctor)


def run_doctor(args: argparse.Namespace) -> int:
    """Examine; return the exit code."""
    settings = read_settings(args.url)
    from sam_plugins.labelstudio_backend.doctor.examination import examine

    findings = []
    for finding in examine(
        settings, project=args.project, backend_url=args.backend, is_repairing=args.repair
    ):
        findings.append(finding)
        if args.json:
            continue
        mark = "mended" if finding.is_repaired else "ok" if finding.is_ok else "PROBLEM"
        say(f"{mark:8}{finding.topic}: {finding.message}")
        if finding.cure:
            say(f"{'':8}cure: {finding.cure}")
    if args.json:
        say_json([asdict(finding) for finding in findings])
    problems = sum(not finding.is_ok for finding in findings)
    if not args.json:
        counted = {0: "nothing", 1: "1 thing"}.get(problems, f"{problems} things")
        say(f"{counted} to do")
    return 1 if problems else 0
