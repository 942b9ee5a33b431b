"""How the notebook becomes a web page:

    jupyter nbconvert --config .nbconvert.py R_11_CLS_TOKEN_IN_GPT.ipynb

It is executed; its progress bars move on the terminal and are not on the page. The page loads
nothing from elsewhere if latex2mathml is installed; otherwise MathJax draws the formulas, from
the network. tests/build.py --html makes the same page from the stored outputs.
"""

import os
import re
from html import escape

from jupyter_core.paths import jupyter_runtime_dir

try:
    from latex2mathml.converter import convert
except ImportError:
    convert = None

# Code, from backquotes to as many backquotes; what else stands between $ is a formula.
CODE = r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)"
FORMULA = re.compile(rf"(?s){CODE}|\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$]+)\$")
# Fonts that hold tall parentheses, and the triangle of a folded solution. On a narrow screen all
# of its width is for what is shown, and what is wider can be scrolled: a drawing of boxes whose
# lines are broken is none.
STYLE = """

<style>
math { font-family: "Latin Modern Math", "STIX Two Math", "Cambria Math",
       "DejaVu Math TeX Gyre", math; }
summary { display: list-item; cursor: pointer; }
@media (max-width: 600px) {
  .prompt, .jp-InputPrompt, .jp-OutputPrompt { display: none; }
  .output_subarea { max-width: 100% !important; overflow-x: auto; }
  .output_subarea img { max-width: none !important; }
  pre, table, math { overflow-x: auto; }
  pre, pre code { white-space: pre !important; }
  table { display: block; }
}
</style>"""


def mathml(match):
    """A formula as MathML, which a browser draws by itself; code stays as it is."""
    latex = match["block"] or match["inline"]
    if latex is None:
        return match[0]
    latex = latex.strip().replace("{,}", r"\text{,}")  # else with a space, as in a list
    latex = re.sub(r"\\(ln|log|exp)\b(?! *[(_^])", r"\g<0>\\,", latex)
    display = "block" if match["block"] else "inline"
    return re.sub(' xmlns="[^"]*"', "", convert(latex, display=display))


def page(notebook, resources):
    """Set the page's title, draw formulas, and give each figure the `alt` of its cell."""
    first = next(c for c in notebook.cells if c.source.startswith("# "))
    notebook.metadata["title"] = first.source.splitlines()[0].removeprefix("# ")
    for cell in notebook.cells:
        if convert and cell.cell_type == "markdown":
            cell.source = FORMULA.sub(mathml, cell.source)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if convert and "text/markdown" in data:
                data["text/markdown"] = FORMULA.sub(mathml, data["text/markdown"])
            if "image/png" in data and "alt" in cell.metadata:
                # As HTML: nbconvert's template `lab` writes no `alt` for a PNG.
                png = f"data:image/png;base64,{data['image/png'].strip()}"
                image = f'<img alt="{escape(cell.metadata.alt)}" src="{png}">'
                output.data = {"text/html": image}
    first.source += STYLE
    # Scripts that the templates load and the page does not use.
    resources["jquery_url"] = resources["require_js_url"] = ""
    resources["mermaid_js_url"] = "data:text/javascript,export default {initialize(){}}"
    if convert:
        resources["mathjax_url"] = ""
    return notebook, resources


c = get_config()  # noqa: F821, there when Jupyter reads this file
c.NbConvertApp.export_format = "html"
c.TemplateExporter.template_name = "classic"
c.ExecutePreprocessor.enabled = True
c.ExecutePreprocessor.extra_arguments = ["--IPKernelApp.quiet=False"]  # to the terminal
# The first leaves of a bar what a terminal would show when it is done: nothing.
coalesce = "nbconvert.preprocessors.CoalesceStreamsPreprocessor"
c.Exporter.preprocessors = [coalesce, page]

# Without these two the terminal warns of listeners on this machine and of a debugger. Sockets
# are files then, whose whole path may not exceed 103 characters.
if os.name != "nt" and len(jupyter_runtime_dir()) < 50:
    c.KernelManager.transport = "ipc"
os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
# Keep the memory that is freed: to fetch memory for the gradients anew at every update takes
# long (where malloc is glibc's).
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**30))
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**30))
