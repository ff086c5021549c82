"""How the documentation is built: ``python -m sphinx -W -b html docs docs/_build/html``."""

import importlib.metadata

project = "trionet"
author = "the trionet authors"
copyright = author
release = importlib.metadata.version("trionet")
version = release

extensions = ["myst_parser"]
exclude_patterns = ["_build"]

myst_heading_anchors = 3

html_theme = "furo"
html_title = f"trionet {release}"
