"""How the site is made of the pages beside this file: `make docs`, in the folder that holds docs."""

from importlib.metadata import version as installed

project = "lossref"
version = release = installed(project)
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinxarg.ext",
    "docs.extensions.docstrings",
    "docs.extensions.reference",
    "docs.extensions.clauses",
]
exclude_patterns = ["examples"]
suppress_warnings = ["myst.header"]  # a clause is a heading of the third level, whether or not its chapter has sections

# The pages are Markdown that reads as it stands on any forge; what is between single backticks is code, in docstrings too.
default_role = "code"
smartquotes = False  # --dtype is no dash
highlight_language = "text"
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"lossref {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_search_summary = False  # a page read from disk may not fetch others
html_show_copyright = False

linkcheck_anchors = False  # those of a forge are made by its scripts
