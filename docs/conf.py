"""Sphinx's configuration. The site is built without network, and calls no other host when it is read."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import pcbench  # noqa: E402

project = "pcbench"
author = "The pcbench developers"
project_copyright = author
release = version = pcbench.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "mathml",
    "topics",
    "registries",
    "drawings",
]
exclude_patterns = ["_build", "_ext"]
root_doc = "index"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3
suppress_warnings = ["myst.strikethrough"]

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"pcbench {release}"
html_static_path = ["_static"]
html_css_files = ["pcbench.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"footer_icons": []}

linkcheck_timeout = 20
linkcheck_retries = 2
