"""The command line: each command parses, calls the core and prints."""

from __future__ import annotations

from sam_plugins.cli.app import main

__all__ = ["main"]
