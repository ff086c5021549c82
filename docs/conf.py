"""How the documentation is built: ``python -m sphinx -W -b html docs docs/_build/html``."""

import importlib.metadata
import re

project = "trionet"
author = "the trionet authors"
copyright = author
release = importlib.metadata.version("trionet")
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxcontrib_trio"]
exclude_patterns = ["_build", "_generated/*.md"]  # the table is included by states.md
default_role = "code"

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [(f"Raises {when}", "params_style") for when in ("here", "in the upgrade", "on entering")]

html_theme = "furo"
html_title = f"trionet {release}"

_COLON = "\N{MODIFIER LETTER COLON}"


def before_napoleon(app, what, name, obj, options, lines):
    """What napoleon would misread: a colon in an attribute's docstring (as a type), a header with parentheses."""
    if what in {"attribute", "data", "property"}:
        lines[:] = [line.replace(": ", f"{_COLON} ") for line in lines]
    lines[:] = [re.sub(r"^Raises \((.*)\):$", r"Raises \1:", line) for line in lines]


def after_napoleon(app, what, name, obj, options, lines):
    """The colons come back."""
    lines[:] = [line.replace(f"{_COLON} ", ": ") for line in lines]


def setup(app):
    """Called by Sphinx. Napoleon's own hook has priority 500."""
    app.connect("autodoc-process-docstring", before_napoleon, priority=400)
    app.connect("autodoc-process-docstring", after_napoleon, priority=600)
