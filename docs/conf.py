"""How the documentation site is built: ``make docs``."""

from __future__ import annotations

import sam_plugins

project = "sam-plugins"
author = "The sam-plugins developers"
project_copyright = "The sam-plugins developers, Apache License 2.0"
release = sam_plugins.__version__
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
templates_path = ["_templates"]
exclude_patterns = ["_build", "explanation/shipped-model-figures.md"]  # the latter is included

# Our dialect: numpydoc sections, types as written in the docstring.
napoleon_google_docstring = False
napoleon_use_rtype = False
autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"
# "(H, W), bool" is prose about an array and no type that could be linked.
napoleon_preprocess_types = False
# The fields of a named tuple are members already.
napoleon_use_ivar = True
# Sphinx tries every word of such prose as a name; "device" is one that several classes have.
suppress_warnings = ["ref.python"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Everything that a page needs lies beside it, so the site reads offline too.
html_theme = "pydata_sphinx_theme"
html_title = "sam-plugins"
html_theme_options = {
    "logo": {"text": "sam-plugins"},
    "show_prev_next": False,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"index": []}
html_show_sourcelink = False
