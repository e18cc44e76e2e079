"""How Sphinx builds the site; `tox run -e docs` does it."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent / "tests" / "helpers")]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

project = "qframe"
copyright = "The qframe contributors"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "cells",
    "formulas",
    "gallery",
    "reference",
]
exclude_patterns = ["_build"]

# The pages are plain Markdown with blocks of ``python``, which reads well on GitHub and in
# an editor; MyST-NB's own text format has a header and ``{code-cell}``, which neither
# highlights. docs/_ext/cells.py runs the blocks and gives MyST-NB notebooks with outputs.
# One process runs all pages: one for each page, as MyST-NB would start it, imports
# TensorFlow anew, which takes longer than most pages.
nb_execution_mode = "off"
nb_custom_formats = {".md": "myst_nb.core.read.standard_nb_read"}
# In cells.py it is a warning.
nb_output_stderr = "remove"
nb_merge_streams = True
nb_code_prompt_show = "Code of the picture"
nb_code_prompt_hide = "Code of the picture"

# The headings of a page are targets: [text](page.md#heading).
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]

html_theme = "furo"
html_title = "qframe"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "footer_icons": [],
    "light_css_variables": {"color-brand-primary": "#20639b"},
}

# "" is an empty text, and no pair of quotation marks.
smartquotes = False
# What stands between backticks in a docstring: a link if it names something here.
default_role = "py:obj"
# Of what it overrides in Keras a method does not take the docstring.
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
add_module_names = False
# Everything that is named as qframe's own has to be here. The rest has its pages elsewhere,
# and those are not asked for while this site is built.
# Type variables.
nitpick_ignore = [
    ("py:class", "qframe.registry.configurable.T"),
    ("py:class", "qframe.utils.Object"),
]
nitpick_ignore_regex = [("py:.*", r"(?!qframe\.).*")]
