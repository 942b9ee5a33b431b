"""Execute the notebook with its default settings and store what it prints.

    python tests/build.py                   # execute everything (minutes), then write
    python tests/build.py --html            # only write what is stored as a web page
    python tests/build.py --home ADDRESS    # change the project's address everywhere

Before, the record's checksum is written into the notebook; afterwards its first figure is put
beside the README. Outputs are stored without widgets or progress bars, and with a fingerprint
of code, data and record, so that a test can tell stale outputs.
"""

import argparse
import base64
import hashlib
import io
import os
import re
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from PIL import Image
from traitlets.config import PyFileConfigLoader

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "R_11_CLS_TOKEN_IN_GPT.ipynb"
README = ROOT / "README.md"
WITH_ADDRESS = (NOTEBOOK, README, ROOT / "CITATION.cff", ROOT / "CONTRIBUTING.md")
PUBLISHED = "4dc25e440dbbe4d2cde29764d6a8f522e824fd8d"  # the commit that we examine
# What .nbconvert.py sets for a page, less the execution.
CONFIG = PyFileConfigLoader(".nbconvert.py", path=str(ROOT)).load_config()
CONFIG.ExecutePreprocessor.enabled = False


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def record():
    """The record's bytes, with the line ends that git stores."""
    return (ROOT / "data" / "runs.jsonl").read_bytes().replace(b"\r\n", b"\n")


def home(notebook):
    """The project's own address: the constant HOME in a cell."""
    source = "\n".join(code.source for code in code_cells(notebook))
    return re.search(r'^HOME = "(.*)"', source, flags=re.MULTILINE)[1]


def fingerprint(notebook):
    """SHA-256 of what the outputs depend on: all code but the address, the data, the record."""
    code = "".join(code.source + "\0" for code in code_cells(notebook))
    code = code.replace(home(notebook), "").encode("utf-8")
    plays = (ROOT / "data" / "shakespeare.npz").read_bytes()
    return hashlib.sha256(plays + record() + code).hexdigest()


def as_a_terminal_shows(text):
    """Apply carriage returns: of a progress bar's refreshes only the line after it stays."""
    return re.sub(r".*\r", "", text)


def smaller(png):
    """The picture (base64) with a palette of its 128 main colours: a third of the bytes."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    small = io.BytesIO()
    picture.quantize(128, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode("ascii")


def client(notebook):
    """What executes a notebook as nbconvert does for a page."""
    where = {"metadata": {"path": str(ROOT)}}
    options = {"timeout": None, "coalesce_streams": True, "record_timing": False}
    return NotebookClient(notebook, config=CONFIG, resources=where, **options)


def page(notebook, template="classic"):
    """What is stored in the notebook, as a web page."""
    exporter = HTMLExporter(config=CONFIG, template_name=template)
    return exporter.from_notebook_node(notebook)[0]


def execute(notebook):
    """Run all cells in a fresh kernel with default settings; keep only lasting output."""
    for name in ("QUICK", "DEVICE", "DATA_FILE", "MPLBACKEND", "TQDM_DISABLE"):
        os.environ.pop(name, None)
    client(notebook).execute()
    for code in code_cells(notebook):
        for output in code.outputs:
            if output.output_type == "stream":
                output.text = as_a_terminal_shows(output.text)
            elif "image/png" in output.data:
                output.data["image/png"] = smaller(output.data["image/png"])
        code.outputs = [output for output in code.outputs if output.get("text") != ""]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    language = {"name": "python", "file_extension": ".py"}
    metadata = {"kernelspec": kernel, "language_info": language}
    notebook.metadata = metadata | {"fingerprint": fingerprint(notebook)}


def figures(notebook):
    """Every cell that drew a picture, with the picture (base64)."""
    outputs = [(code, o) for code in code_cells(notebook) for o in code.outputs]
    drawn = [(code, o.get("data", {}).get("image/png")) for code, o in outputs]
    return [(code, png) for code, png in drawn if png]


def moved(text, old, new):
    """`text` with another address: of the repository, the badge, raw files and the page."""
    old, new = (address.removeprefix("https://github.com/") for address in (old, new))
    page_of = "{0[0]}.github.io/{0[1]}".format
    text = text.replace(page_of(old.split("/")), page_of(new.split("/")))
    # Where the published project is meant, its commit follows.
    return re.sub(rf"\b{re.escape(old)}(?![\w-]|/\w+/{PUBLISHED})", new, text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--html", action="store_true", help="only write a web page")
    parser.add_argument("--home", metavar="ADDRESS", help="the project's new address")
    args = parser.parse_args()

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    if args.html:
        NOTEBOOK.with_suffix(".html").write_text(page(notebook), "utf-8")
        return
    if args.home:
        if not re.fullmatch(r"https://github\.com/[A-Za-z\d-]+/[\w.-]+", args.home):
            parser.error(
                "--home: expected an address like https://github.com/owner/name"
            )
        for path in WITH_ADDRESS:
            text = moved(path.read_text("utf-8"), home(notebook), args.home)
            path.write_text(text, "utf-8", newline="\n")
        return
    checksum = f'RUNS_SHA256 = "{hashlib.sha256(record()).hexdigest()}"'
    for code in code_cells(notebook):
        code.source = re.sub(r'(?m)^RUNS_SHA256 = "\w+"', checksum, code.source)
    start = time.perf_counter()
    execute(notebook)
    picture = base64.b64decode(figures(notebook)[0][1])
    (ROOT / ".github" / "answer.png").write_bytes(picture)
    nbformat.write(notebook, NOTEBOOK)
    seconds, size = time.perf_counter() - start, NOTEBOOK.stat().st_size
    print(f"executed in {seconds:.0f} s; {size:,} bytes")


if __name__ == "__main__":
    main()
