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
DATA = ROOT / "data" / "shakespeare.npz"
RECORD = ROOT / "data" / "runs.jsonl"
README = ROOT / "README.md"
FIGURE = ROOT / ".github" / "answer.png"
WITH_ADDRESS = (NOTEBOOK, README, ROOT / "CITATION.cff", ROOT / "CONTRIBUTING.md")
PUBLISHED = "4dc25e440dbbe4d2cde29764d6a8f522e824fd8d"  # the commit that we examine
SWITCHES = ("QUICK", "DEVICE", "DATA_FILE", "MPLBACKEND", "TQDM_DISABLE")


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def record():
    """The record's bytes, with the line ends that git stores."""
    return RECORD.read_bytes().replace(b"\r\n", b"\n")


def home(notebook):
    """The project's own address: the constant HOME in a cell."""
    source = "\n".join(code.source for code in code_cells(notebook))
    return re.search(r'^HOME = "(.*)"', source, flags=re.MULTILINE)[1]


def fingerprint(notebook):
    """SHA-256 of what the outputs depend on: all code but the address, the data, the record."""
    digest = hashlib.sha256(DATA.read_bytes() + record())
    for code in code_cells(notebook):
        source = code.source.replace(home(notebook), "")
        digest.update(source.encode("utf-8") + b"\0")
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


def settings():
    """What .nbconvert.py sets for a page, less the execution."""
    config = PyFileConfigLoader(".nbconvert.py", path=str(ROOT)).load_config()
    config.ExecutePreprocessor.enabled = False
    return config


def page(notebook, template="classic"):
    """What is stored in the notebook, as a web page."""
    exporter = HTMLExporter(config=settings(), template_name=template)
    return exporter.from_notebook_node(notebook)[0]


def execute(notebook):
    """Run all cells in a fresh kernel with default settings; keep only lasting output."""
    for name in SWITCHES:
        os.environ.pop(name, None)
    where = {"metadata": {"path": str(ROOT)}}
    options = {"timeout": None, "coalesce_streams": True, "record_timing": False}
    NotebookClient(notebook, config=settings(), resources=where, **options).execute()
    for code in code_cells(notebook):
        for output in code.outputs:
            if output.output_type == "stream":
                output.text = as_a_terminal_shows(output.text)
            elif "image/png" in output.data:
                output.data["image/png"] = smaller(output.data["image/png"])
        code.outputs = [output for output in code.outputs if output.get("text") != ""]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    language = {"name": "python", "file_extension": ".py"}
    notebook.metadata = {"kernelspec": kernel, "language_info": language}
    notebook.metadata["fingerprint"] = fingerprint(notebook)


def figures(notebook):
    """All pictures (base64) that the cells drew, in order."""
    data = [o.get("data", {}) for code in code_cells(notebook) for o in code.outputs]
    return [d["image/png"] for d in data if "image/png" in d]


def moved(text, old, new):
    """`text` with another address: of the repository, the badge, raw files and the page."""
    old, new = (address.removeprefix("https://github.com/") for address in (old, new))
    page_of = "{0[0]}.github.io/{0[1]}".format
    text = text.replace(page_of(old.split("/")), page_of(new.split("/")))
    # Where the published project is meant, its commit follows.
    return re.sub(rf"\b{re.escape(old)}(?![\w-]|/\w+/{PUBLISHED})", new, text)


def change_home(notebook, address):
    """Write the project's new address into every file that holds it."""
    if not re.fullmatch(r"https://github\.com/[A-Za-z\d-]+/[\w.-]+", address):
        expected = "expected an address like https://github.com/owner/name."
        raise SystemExit(f"--home {address}: {expected}")
    for path in WITH_ADDRESS:
        text = moved(path.read_text("utf-8"), home(notebook), address)
        path.write_text(text, "utf-8", newline="\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--html", action="store_true", help="only write a web page")
    parser.add_argument("--home", metavar="ADDRESS", help="the project's new address")
    args = parser.parse_args()

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    if args.home:
        change_home(notebook, args.home)
        return
    if args.html:
        NOTEBOOK.with_suffix(".html").write_text(page(notebook), "utf-8")
        return
    checksum = f'RUNS_SHA256 = "{hashlib.sha256(record()).hexdigest()}"'
    for code in code_cells(notebook):
        code.source = re.sub(r'(?m)^RUNS_SHA256 = "\w+"', checksum, code.source)
    start = time.perf_counter()
    execute(notebook)
    FIGURE.write_bytes(base64.b64decode(figures(notebook)[0]))
    nbformat.write(notebook, NOTEBOOK)
    seconds, size = time.perf_counter() - start, NOTEBOOK.stat().st_size
    print(f"executed in {seconds:.0f} s; {size:,} bytes")


if __name__ == "__main__":
    main()
