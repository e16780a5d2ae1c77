"""``sam-plugins engine``: people and a model label together, in a project's folder."""

from sam_plugins.cli.engine.parser import add_parser

__all__ = ["add_parser"]
