# Copyright: (c) 2026, The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Sphinx settings for `make docs-site`: the Markdown pages of docs/ and the pages antsibull-docs makes, as one site."""

project = "flowfleet.langflow"
copyright = "2026, The flowfleet.langflow contributors"
extensions = ["myst_parser", "sphinx_antsibull_ext"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
myst_heading_anchors = 3
html_theme = "sphinx_ansible_theme"
pygments_style = "ansible"
highlight_language = "YAML+Jinja"
# Pages link to each other in running text; module names of other collections live elsewhere.
suppress_warnings = ["toc.not_included", "ref.ref", "ref.any", "myst.xref_missing"]
