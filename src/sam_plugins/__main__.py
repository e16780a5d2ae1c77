"""``python -m sam_plugins``: the command line where the script is not on the path."""

from __future__ import annotations

import sys

from sam_plugins.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
