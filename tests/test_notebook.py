"""The notebook as a whole: that it runs, and that what it stores is fresh and clean."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise

import nbformat
import pytest
from build import (
    DATA,
    FIGURE,
    NOTEBOOK,
    README,
    ROOT,
    SWITCHES,
    as_a_terminal_shows,
    code_cells,
    filled_readme,
    fingerprint,
    page,
    stored,
)
from build import figure as figure_bytes
from nbclient import NotebookClient

ALLOWED = {"IPython", "matplotlib", "numpy", "torch", "tqdm", *sys.stdlib_module_names}


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def execute(folder, **environment):
    """Execute the notebook alone in `folder`; return the result."""
    shutil.copy(NOTEBOOK, folder)
    clean = {k: v for k, v in os.environ.items() if k not in SWITCHES}
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--stdout"]
    return subprocess.run(
        [*command, NOTEBOOK.name],
        cwd=folder,
        env={**clean, **environment},
        capture_output=True,
        text=True,
    )


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def check_outputs(notebook):
    """No error, nothing on stderr, no widget, no path of the machine it ran on."""
    for output in outputs(notebook):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text
        assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {})
        shown = json.dumps({k: v for k, v in output.get("data", {}).items() if "image" not in k})
        shown += output.get("text", "")
        assert not re.search(r"/(home|root|tmp|work|Users)/|[A-Z]:\\\\", shown), shown


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder but for the data; the environment of a quick run."""
    for name in (*SWITCHES, "MPLBACKEND"):  # the kernel has a backend of its own
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("QUICK", "1")
    (tmp_path / "data").mkdir()
    shutil.copy(DATA, tmp_path / "data")
    return tmp_path


def run_all(cells, folder):
    """Execute cells in a fresh kernel in `folder`."""
    copy = nbformat.v4.new_notebook(cells=[nbformat.from_dict(cell) for cell in cells])
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(copy, timeout=None, coalesce_streams=True, resources=resources).execute()
    return copy


@pytest.mark.slow
def test_run_all_twice_in_one_kernel_gives_the_same(notebook, folder):
    again = [{**cell, "id": f"{cell.id}-2"} for cell in notebook.cells]
    executed = run_all([*notebook.cells, *again], folder)
    check_outputs(executed)
    assert "From a quick run" in stored(executed, "device", "text/markdown")
    cells = code_cells(executed)
    n = len(cells) // 2
    for first, second in zip(cells[:n], cells[n:], strict=True):
        for one, other in zip(first.outputs, second.outputs, strict=True):
            assert as_a_terminal_shows(one.get("text", "")) == as_a_terminal_shows(
                other.get("text", "")
            )
            assert one.get("data") == other.get("data"), first.id
    assert sorted(p.name for p in folder.iterdir()) == ["data"]


@pytest.mark.slow
def test_with_every_training_stopped_the_cells_below_still_run(notebook, folder):
    """The stop button, in the first epoch of each comparison."""
    stop = nbformat.v4.new_code_cell(
        "def batches(*args):\n    raise KeyboardInterrupt\n    yield", id="stop"
    )
    where = [cell.id for cell in notebook.cells].index("memorise") + 1
    cells = [*notebook.cells[:where], stop, *notebook.cells[where:]]
    executed = run_all(cells, folder)
    assert not any(output.output_type == "error" for output in outputs(executed))
    told = "".join(output.get("text", "") for output in outputs(executed))
    assert told.count("vanilla, seed 0: stopped in epoch 1.") >= 3
    finding = stored(executed, "device", "text/markdown")
    assert "is open: the runs were stopped" in finding and "| supported |" not in finding


@pytest.mark.slow
def test_as_a_script_on_two_processes_and_started_again(folder):
    convert = [sys.executable, "-m", "nbconvert", "--to", "script", "--output-dir", folder]
    subprocess.run([*convert, NOTEBOOK], check=True, capture_output=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--local-ranks-filter=0", NOTEBOOK.with_suffix(".py").name]
    environment = {**os.environ, "RESUME": "runs"}
    texts = []
    for _ in range(2):
        result = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=True
        )
        lines = as_a_terminal_shows(result.stdout).split("\n")
        texts.append([line for line in lines if line.strip() and not re.search("it/s|s/it", line)])
    assert texts[0] == texts[1] and "On text not seen in training" in "".join(texts[0])
    kept = [path.suffix for path in (folder / "runs").iterdir()]
    assert set(kept) == {".pt", ".png"} and kept.count(".png") >= 10


def test_alone_and_without_a_network_it_says_what_to_do(tmp_path):
    result = execute(tmp_path, QUICK="1", DATA_URL="http://127.0.0.1:1/shakespeare.npz")
    assert result.returncode != 0
    for words in ("Could not download http://127.0.0.1:1", "shakespeare.npz at", "set DATA_URL"):
        assert words in result.stderr
    assert not list(tmp_path.glob("data/*"))


def test_outputs_are_fresh_and_in_order(notebook):
    assert notebook.metadata.get("fingerprint") == fingerprint(notebook), (
        "the code or the data have changed since the outputs were made: run tests/build.py"
    )
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_outputs_are_clean(notebook):
    check_outputs(notebook)
    for output in outputs(notebook):
        assert "\r" not in output.get("text", "")
    assert "widgets" not in notebook.metadata
    for cell in notebook.cells:
        drawn = any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
        assert set(cell.metadata) == ({"alt"} if drawn else set()), cell.id
    assert "quick: False" in "".join(o.get("text", "") for o in outputs(notebook))


def test_readme_shows_what_the_notebook_stores(notebook):
    text = README.read_text("utf-8")
    assert filled_readme(notebook, text) == text
    assert stored(notebook, "device", "text/markdown") in text
    assert FIGURE.read_bytes() == figure_bytes(notebook)
    assert str(FIGURE.relative_to(ROOT).as_posix()) in text


def test_the_web_page_stands_alone_and_describes_its_figures(notebook, caplog):
    html = page(notebook)
    assert not caplog.records  # nbconvert warns of figures without a description
    loaded = re.findall(r"<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=[\"']([^\"']*)", html)
    assert {address[:5] for address in loaded} <= {"", "data:"}
    pictures = re.findall(r"<img\b[^>]*>", html)
    assert len(pictures) >= 10 and all("alt=" in picture for picture in pictures)


def test_size_and_shape(notebook):
    nbformat.validate(notebook)
    assert NOTEBOOK.stat().st_size < 500_000
    lines = [
        sum(1 for line in cell.source.splitlines() if line.strip()) for cell in code_cells(notebook)
    ]
    assert len(lines) <= 60 and sum(lines) <= 1_030 and max(lines) <= 40
    assert max(len(line) for c in code_cells(notebook) for line in c.source.splitlines()) <= 100
    kinds = [cell.cell_type for cell in notebook.cells]
    assert all(k != "code" or kinds[i - 1] == "markdown" for i, k in enumerate(kinds))
    for output in outputs(notebook):
        assert len(output.get("data", {}).get("image/png", "")) * 3 / 4 < 100_000


def test_cells_are_plain_python_with_few_imports(notebook):
    for cell in code_cells(notebook):
        for node in ast.walk(ast.parse(cell.source)):  # a magic or a shell line does not parse
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            else:
                continue
            assert cell.id == "imports" and {n.split(".")[0] for n in names} <= ALLOWED


def test_headings_skip_no_level_and_links_lead_somewhere(notebook):
    text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    levels = [len(m) for m in re.findall(r"^(#+) ", text, flags=re.MULTILINE)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    anchors = {h.replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) <= anchors


def test_ci_runs_the_command_of_the_readme():
    command = "python3 -m venv .venv && .venv/bin/pip install -q -r tests/requirements.txt"
    command += " && .venv/bin/python -m pytest tests"
    assert command in README.read_text("utf-8")
    assert command in (ROOT / ".ci" / "run").read_text("utf-8")
