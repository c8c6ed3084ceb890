"""Configuration of the documentation; build it with `sphinx-build -W --keep-going -b html docs build/docs`.

The build reads the docstrings and the argument parsers of the installed packages (`pip install -e '.[dev]'`)
and uses no network.
"""

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("runtime", "train", "export")]

import emotion_runtime  # noqa: E402

project = "emotion-runtime"
author = "The emotion-runtime contributors"
copyright = author  # noqa: A001 - the name that Sphinx reads
version = release = emotion_runtime.__version__
language = "en"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_argparse_cli",
    "sphinx_copybutton",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]

# Headings can be linked to as page.md#heading, and the build fails when one does not exist.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
maximum_signature_line_length = 88
autodoc_default_options = {"members": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
default_role = "literal"  # docstrings write `names` in single backquotes

html_theme = "furo"
html_title = f"emotion-runtime {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False


def shorten_arrays(*event: Any) -> tuple[str | None, str | None]:
    """Write the types of arrays as the source does: NDArray[uint8]."""
    array = re.compile(r"~?[\w.]*ndarray\[~?tuple\[.*?\], ~?[\w.]*dtype\[~?(?:\w+\.)*(\w+)\]\]")
    arguments, returned = (text and array.sub(r"NDArray[\1]", text) for text in event[-2:])
    return arguments, returned


def setup(app: Any) -> None:
    """Connect to Sphinx."""
    app.connect("autodoc-process-signature", shorten_arrays)
