"""Execute the notebook with its default settings and store what it prints.

    python tests/build.py            # execute everything (minutes), then write
    python tests/build.py --html     # only write what is stored as a web page

Before, the record's checksum is written into the notebook; afterwards the figure of claims is
put at its top and beside the README. Outputs are stored without timings, widgets or progress
bars, and with a fingerprint of code, data and record, so that a test can tell stale outputs.
"""

import argparse
import base64
import hashlib
import io
import os
import re
import time
from datetime import datetime
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "R_11_CLS_TOKEN_IN_GPT.ipynb"
DATA = ROOT / "data" / "shakespeare.npz"
RECORD = ROOT / "data" / "runs.jsonl"
README = ROOT / "README.md"
FIGURE = ROOT / ".github" / "claims.png"
SWITCHES = ("QUICK", "DEVICE", "DATA_FILE", "MPLBACKEND", "TQDM_DISABLE")


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def cell(notebook, cell_id):
    """Return the cell with this id."""
    return next(c for c in notebook.cells if c.id == cell_id)


def fingerprint(notebook):
    """SHA-256 of all code, the data and the record: what the outputs depend on."""
    digest = hashlib.sha256(DATA.read_bytes() + RECORD.read_bytes())
    for code in code_cells(notebook):
        digest.update(code.source.encode("utf-8") + b"\0")
    return digest.hexdigest()


def as_a_terminal_shows(text):
    """Apply carriage returns: of a progress bar's refreshes only the line after it stays."""
    return "\n".join(line.rsplit("\r", 1)[-1] for line in text.split("\n"))


def smaller(png):
    """The picture (base64) with a palette of its 128 main colours: a third of the bytes."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    small = io.BytesIO()
    picture.quantize(128, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode("ascii")


def duration(execution):
    """Seconds from the kernel's own time stamps of a cell."""
    stamps = (execution[f"iopub.status.{s}"] for s in ("busy", "idle"))
    begin, end = map(datetime.fromisoformat, stamps)
    return (end - begin).total_seconds()


def execute(notebook):
    """Run all cells in a fresh kernel with default settings; keep only lasting output."""
    for name in SWITCHES:
        os.environ.pop(name, None)
    client = NotebookClient(
        notebook,
        timeout=None,
        coalesce_streams=True,
        record_timing=True,
        resources={"metadata": {"path": str(ROOT)}},
    )
    client.execute()
    seconds = {}
    for code in code_cells(notebook):
        for output in code.outputs:
            if output.output_type == "stream":
                output.text = as_a_terminal_shows(output.text)
            elif "image/png" in output.data:
                output.data["image/png"] = smaller(output.data["image/png"])
        code.outputs = [output for output in code.outputs if output.get("text") != ""]
        seconds[code.id] = duration(code.metadata.execution)
        del code.metadata["execution"]
    for cell_id, taken in sorted(seconds.items(), key=lambda item: -item[1])[:8]:
        print(f"{cell_id:12} {taken:6.1f} s")
    notebook.metadata = {
        "kernelspec": {
            "display_name": "Python 3",
            "language": "python",
            "name": "python3",
        },
        "language_info": {"name": "python", "file_extension": ".py"},
        "fingerprint": fingerprint(notebook),
    }


def figure(notebook, cell_id):
    """Return the picture (base64) that a cell drew."""
    outputs = cell(notebook, cell_id).outputs
    return next(
        o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})
    )


def page(notebook):
    """The notebook as a web page that stands alone: nothing is loaded from elsewhere.

    The classic template is the one that shows each figure's `alt`, in its cell's metadata.
    """
    nowhere = {"mathjax_url": "", "require_js_url": "", "jquery_url": ""}
    exporter = HTMLExporter(template_name="classic", **nowhere)
    return exporter.from_notebook_node(notebook)[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--html", action="store_true", help="do not execute, write a web page"
    )
    args = parser.parse_args()

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    if args.html:
        NOTEBOOK.with_suffix(".html").write_text(page(notebook), "utf-8")
        return
    digest = hashlib.sha256(RECORD.read_bytes()).hexdigest()
    record = cell(notebook, "record")
    record.source = re.sub(
        r'RUNS_SHA256 = "\w+"', f'RUNS_SHA256 = "{digest}"', record.source
    )
    start = time.perf_counter()
    execute(notebook)
    claims = figure(notebook, "claims-figure")
    cell(notebook, "front").attachments = {"claims.png": {"image/png": claims}}
    FIGURE.write_bytes(base64.b64decode(claims))
    nbformat.write(notebook, NOTEBOOK)
    print(
        f"executed in {time.perf_counter() - start:.0f} s; {NOTEBOOK.stat().st_size:,} bytes"
    )


if __name__ == "__main__":
    main()
