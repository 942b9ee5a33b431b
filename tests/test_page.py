"""The page that a reader gets: outputs, figures, formulas, links, sizes, and whole runs."""

import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from statistics import median

import nbformat
import pytest
from build import (
    NOTEBOOK,
    PUBLISHED,
    README,
    ROOT,
    WITH_ADDRESS,
    as_a_terminal_shows,
    code_cells,
    figures,
    fingerprint,
    home,
    moved,
    page,
    settings,
)
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

INSTALLED = {"torch", "numpy", "matplotlib", "IPython", "tqdm"}
THEIRS = "Nakshatra1729yuvi/GPT-2_ARCH_WITH_CLS"
JUPYTER = [sys.executable, "-m", "jupyter", "nbconvert"]


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def pages(notebook):
    return {name: page(notebook, name) for name in ("classic", "lab", "basic")}


def outputs(notebook):
    return [output for code in code_cells(notebook) for output in code.outputs]


def drawn(notebook):
    """The cells that drew a figure."""
    codes = code_cells(notebook)
    return [
        c for c in codes if any("image/png" in o.get("data", {}) for o in c.outputs)
    ]


def prose(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def said(cell):
    """What a cell printed and returned, as text."""
    texts = []
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            texts.append(as_a_terminal_shows(output.text))
        for kind, content in output.get("data", {}).items():
            texts += [content] if kind.startswith("text/") else []
    return texts


def test_outputs_belong_to_code_data_and_record(notebook):
    assert notebook.metadata.fingerprint == fingerprint(notebook), (
        "the stored outputs are stale: run tests/build.py"
    )
    counts = [code.execution_count for code in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_outputs_are_clean(notebook):
    for output in outputs(notebook):
        assert output.output_type != "error" and output.get("name") != "stderr"
    for text in (text for code in code_cells(notebook) for text in said(code)):
        assert "it/s" not in text and "\r" not in text
        assert "IPython.core.display" not in text  # a table is one as plain text too
        assert not re.search(r"/(?:home|root|tmp|work|Users)/|\bnan\b", text)
    assert "widgets" not in notebook.metadata
    nbformat.validate(notebook)


def test_every_figure_is_small_and_described(notebook, pages):
    cells = drawn(notebook)
    assert len(cells) >= 8
    assert all(len(png) < 4 / 3 * 100_000 for png in figures(notebook))
    assert [c.id for c in cells] == [
        c.id for c in notebook.cells if "alt" in c.metadata
    ]
    assert not [c.id for c in notebook.cells if c.get("attachments")]
    for html in pages.values():
        alts = re.findall(r'<img alt=(".*?"|\'.*?\') src="data:image/png', html)
        assert len(alts) == html.count("<img") == len(figures(notebook))
        assert min(map(len, alts)) > 60
    assert all(cell.metadata.alt[:40] in pages["lab"] for cell in cells)


def test_the_page_needs_no_network_and_has_a_title(notebook, pages):
    title = prose(notebook)[0].splitlines()[0].removeprefix("# ")
    for name in ("classic", "lab"):
        assert f"<title>{title}</title>" in pages[name]
    # The other template's only address is that of diagrams, loaded where there is one.
    loads = r"""(?:<(?:script|link|img)[^>]+(?:src|href)=|from )["']https?:"""
    assert not re.search(loads, pages["classic"])


def test_every_formula_is_mathml(pages):
    html = pages["basic"]
    formulas = re.findall(r"<math.*?</math>", html, flags=re.DOTALL)
    assert len(formulas) >= 10
    for formula in formulas:  # what was not understood stands there as it was written
        assert not re.search(r"\\|>&amp;<", formula), formula
    text = re.sub(r"(?s)<(pre|code|style)\b.*?</\1>|<img.*?>", "", html)
    assert not re.findall(r".{,40}\$.{,40}", text)


def test_cells_keep_to_the_house_rules(notebook):
    for code in code_cells(notebook):
        assert max(map(len, code.source.splitlines())) <= 88, code.id
        for name in re.findall(r"^(?:import|from) (\w+)", code.source, flags=re.M):
            assert name in INSTALLED | sys.stdlib_module_names, f"{code.id}: {name}"
    text = "\n".join(prose(notebook))
    for language, block in re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", text):
        assert language or max(map(len, block.splitlines())) <= 36, block
    tables = [text, *(t for code in code_cells(notebook) for t in said(code))]
    for rule in re.findall(r"^\|([ :|-]*-[ :|-]*)\|$", "\n".join(tables), flags=re.M):
        # Else one template aligns to the left and another to the right.
        assert all(":" in column for column in rule.split("|")), rule


def test_sizes(notebook):
    """What is over its limit, as (what, size, limit)."""

    def words(cells):
        prose = [c.source for c in cells if c.cell_type == "markdown"]
        return sum(any(map(str.isalnum, w)) for text in prose for w in text.split())

    def lines(cells):
        cells = [c for c in cells if c.cell_type == "code"]
        return [sum(bool(x.strip()) for x in c.source.splitlines()) for c in cells]

    part = {}
    for index, cell in enumerate(notebook.cells):
        for number in re.findall(r"^## (\d+) ", cell.source, flags=re.M):
            part[int(number)] = index
    cells = notebook.cells
    sizes = [
        ("words of prose", words(cells), 10_000),
        ("words in parts 10 to 16", words(cells[part[10] : part[17]]), 3_700),
        ("lines of code", sum(lines(cells)), 1_470),
        ("lines of code before part 17", sum(lines(cells[: part[17]])), 1_250),
        ("lines in the median cell", median(lines(cells)), 12),
        ("lines in the longest cell", max(lines(cells)), 30),
        ("bytes of the notebook", NOTEBOOK.stat().st_size, 500_000),
        ("words in README.md", len(README.read_text("utf-8").split()), 700),
    ]
    assert [entry for entry in sizes if entry[1] > entry[2]] == []


def test_headings_and_links(notebook):
    """A link to a part leads to an anchor, in lower case, on the line before its heading."""
    text = "\n\n".join(prose(notebook))
    headings = re.findall(
        r"^(#+) (.+)$", re.sub(r"(?s)```.*?```", "", text), flags=re.M
    )
    assert all(len(b[0]) <= len(a[0]) + 1 for a, b in pairwise(headings))
    parts = re.findall(r'^<a id="part-(\d+)"></a>\n+## (\d+) ', text, flags=re.M)
    numbers = [title.split()[0] for _, title in headings if title[0].isdigit()]
    assert numbers == [str(n) for n in range(1, len(numbers) + 1)]
    assert parts == [(n, n) for n in numbers]
    anchors = re.findall(r'<a id="(.*?)"></a>', text)
    assert len(set(anchors)) == len(anchors)
    links = set(re.findall(r"\]\(#(.*?)\)", text))
    assert {f"part-{n}" for n in numbers} <= links <= set(anchors)


def test_one_address_everywhere(notebook):
    address = home(notebook)
    slug = address.removeprefix("https://github.com/")
    here = os.environ.get("GITHUB_REPOSITORY", slug)
    command = f"python tests/build.py --home https://github.com/{here}"
    assert slug == here, f"the notebook names another project, run: {command}"
    texts = {path.name: path.read_text("utf-8") for path in WITH_ADDRESS}
    badge = f"https://colab.research.google.com/github/{slug}/blob/main/{NOTEBOOK.name}"
    owner, name = slug.split("/")
    places = {
        NOTEBOOK.name: [badge],
        "README.md": [
            badge,
            rf"\url{{{address}}}",
            f"https://{owner}.github.io/{name}/",
        ],
        "CITATION.cff": [f"repository-code: {address}\n"],
    }
    for path, wanted in places.items():
        assert not [each for each in wanted if each not in texts[path]], path
    texts["data/README.md"] = (ROOT / "data" / "README.md").read_text("utf-8")
    for path, text in texts.items():  # the published project, only as it was then
        links = re.findall(rf"{re.escape(THEIRS)}(?!/(?:tree|blob)/{PUBLISHED})", text)
        assert slug == THEIRS or not links, path


def test_home_moves_what_is_ours():
    old, new = "https://github.com/OWNER/REPOSITORY", "https://github.com/a-b/c.d"
    ours = [
        '"{}"', "{}/issues.", "https://raw.githubusercontent.com/{0[0]}/{0[1]}/main/",
        "https://{0[0]}.github.io/{0[1]}/",
    ]  # fmt: skip
    theirs = f"{old}/tree/{PUBLISHED} {old}-2 https://github.com/karpathy/nanoGPT"

    def written(address):
        parts = address.split("/")[-2:]
        return " ".join(x.format(parts if "{0" in x else address) for x in ours)

    assert moved(f"{written(old)} {theirs}", old, new) == f"{written(new)} {theirs}"
    command = [sys.executable, ROOT / "tests" / "build.py", "--home", "example.org/a"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode and len(run.stderr.splitlines()) == 1
    assert "https://github.com/owner/name" in run.stderr


def test_readme_names_commands_and_files_that_exist():
    texts = [
        (ROOT / name).read_text("utf-8") for name in ("README.md", "CONTRIBUTING.md")
    ]
    assert f"jupyter nbconvert --config .nbconvert.py {NOTEBOOK.name}" in texts[0]
    assert "-m pytest tests" in texts[0]
    for name in re.findall(
        r"[`(]((?:data|tests|\.ci|\.github)/[\w.]+)", "".join(texts)
    ):
        assert (ROOT / name).exists(), name


def test_git_stores_the_same_bytes_on_every_system():
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("no git here")
    names = ["data/runs.jsonl", NOTEBOOK.name, "data/shakespeare.npz"]
    command = ["git", "-C", ROOT, "check-attr", "eol", "text", "--", *names]
    run = subprocess.run(command, capture_output=True, text=True)
    assert [line.split(": ")[2] for line in run.stdout.splitlines()] == [
        "lf", "auto", "lf", "auto", "lf", "unset",
    ]  # fmt: skip


def test_the_readme_command_shows_a_bar_and_leaves_none(tmp_path):
    """On a small notebook, with all that a page must keep."""
    code = """
import os, sys
import matplotlib.pyplot as plt
from tqdm import tqdm
for _ in tqdm(range(3), file=sys.stdout, leave=False):
    pass
print("kept:", os.environ["MALLOC_TRIM_THRESHOLD_"])
%matplotlib inline
plt.plot([1, 2])
plt.show()"""
    cells = [
        new_markdown_cell("# One & two\n\n$p_i$ costs `$5`: $$\\sum_{i=1}^n a < b$$"),
        new_code_cell(code, metadata={"alt": 'A "line" & more'}),
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / "small.ipynb")
    command = [*JUPYTER, "--config", ROOT / ".nbconvert.py", tmp_path / "small.ipynb"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    html = (tmp_path / "small.html").read_text("utf-8")
    assert "0/3" in run.stdout and "0/3" not in html and f"kept: {2**30}" in html
    assert not re.search("warning|frozen|encryption", run.stderr, flags=re.I)
    assert "<title>One &amp; two</title>" in html and "<code>$5</code>" in html
    assert html.count("<math") == 2 and "<munderover><mo>∑</mo>" in html
    assert re.search(r"<img alt='A \"line\" &amp; more' src=\"data:image/png", html)


@pytest.fixture(scope="module")
def kernel():
    """A kernel in which the whole notebook was executed once, quickly."""
    client = NotebookClient(
        nbformat.read(NOTEBOOK, as_version=4),
        config=settings(),
        timeout=None,
        coalesce_streams=True,
        resources={"metadata": {"path": str(ROOT)}},
    )
    environ = os.environ | {"QUICK": "1"}
    environ.pop("MPLBACKEND")  # conftest's, for the definitions: here figures are drawn
    with client.setup_kernel(env=environ):
        for index, cell in enumerate(client.nb.cells):
            client.execute_cell(cell, index)
        yield client


@pytest.mark.slow
def test_a_quick_run_draws_all_and_warns_of_nothing(notebook, kernel):
    assert not [o.text for o in outputs(kernel.nb) if o.get("name") == "stderr"]
    assert [c.id for c in drawn(kernel.nb)] == [c.id for c in drawn(notebook)]


@pytest.mark.slow
def test_every_cell_can_be_run_again_and_says_the_same(kernel):
    first = [(cell.id, said(cell)) for cell in kernel.nb.cells]
    for index, cell in enumerate(kernel.nb.cells):
        kernel.execute_cell(cell, index)
    second = [(cell.id, said(cell)) for cell in kernel.nb.cells]
    assert [
        pair for pair in zip(first, second, strict=True) if pair[0] != pair[1]
    ] == []


@pytest.mark.slow
def test_it_runs_as_a_script_from_elsewhere_on_an_own_text(tmp_path):
    lesson, elsewhere = tmp_path / "lesson", tmp_path / "elsewhere"
    lesson.mkdir()
    elsewhere.mkdir()
    os.symlink(ROOT / "data", lesson / "data")
    export = [*JUPYTER, "--to", "script", "--output-dir", lesson, NOTEBOOK]
    subprocess.run(export, check=True, capture_output=True)
    text = "the cat and a dog walk over old hills while rain falls on quiet stone"
    words = text.split()
    lines = [" ".join(words[i % 13 :] + words[: i % 7]) for i in range(2500)]
    (elsewhere / "my_book.txt").write_text("\n".join(lines), "utf-8")
    environ = os.environ | {
        "QUICK": "1",
        "DATA_FILE": "my_book.txt",
        "MPLBACKEND": "agg",
    }
    command = [sys.executable, lesson / NOTEBOOK.with_suffix(".py").name]
    run = subprocess.run(
        command, cwd=elsewhere, env=environ, capture_output=True, encoding="utf-8"
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "Warning" not in run.stderr and "download" not in run.stdout
    assert os.listdir(elsewhere) == ["my_book.txt"]


def test_bars_are_taken_out_of_stored_text():
    assert as_a_terminal_shows("a\r10%\r    \rdone\nb") == "done\nb"
