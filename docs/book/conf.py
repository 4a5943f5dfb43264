"""How Sphinx makes the book; `make_book.py` puts this file beside the pages."""

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

project = "RPS-LRFS"
author = "the RPS-LRFS contributors"
extensions = ["myst_nb"]
myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 4
nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js = {}  # nothing is fetched from the web
suppress_warnings = ["mystnb.unknown_mime_type", "myst.header"]

html_theme = "sphinx_book_theme"
html_title = "RPS-LRFS"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_js_files = ["figures.js"]
html_math_renderer = "mathml"
html_theme_options = {"use_download_button": True, "home_page_in_toc": True, "show_toc_level": 2}


def _math(translator: Any, node: nodes.Element) -> None:
    block = isinstance(node, nodes.math_block)
    translator.body.append(convert(node.astext(), display="block" if block else "inline"))
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Write mathematics as MathML, which browsers know by themselves."""
    app.add_html_math_renderer("mathml", (_math, None), (_math, None))
