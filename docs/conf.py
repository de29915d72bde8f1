"""Settings of Sphinx for the manual, whose pages are in docs and notebooks."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

project = "fedlab"
author = copyright = "The fedlab authors"
version = release = version_of("fedlab-privacy")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "docs.generated.extension",
]
# The source is the repository, so that pages link to notebooks and code as they do on GitHub.
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "notebooks/*.ipynb",
    *("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"),
]
exclude_patterns = [".*", "build", "dist", "runs", "docs/hub-app"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}

nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!fedlab\.).*"),  # types of other packages, and aliases of types
    # Scenario keys and columns have pages of their own.
    ("py:class", r"fedlab\.(scenario\.(roles|tables)|results\.rows|privacy\.ledger)\.\w+"),
    # What only other rooms use.
    ("py:class", r"fedlab\.(client\.federated_data|results\.checkpoint)\.\w+"),
]
highlight_language = "none"
smartquotes = False  # they would make one dash of the two of an option

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_update_mathjax = False
nb_execution_mode = "off"  # the tests run the notebooks

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = "fedlab"
html_static_path = ["static"]
html_css_files = ["manual.css"]
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False
