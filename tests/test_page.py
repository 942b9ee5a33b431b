"""The page that a reader gets: outputs, figures, formulas, links, sizes, and whole runs."""

import os
import re
import subprocess
import sys
from itertools import pairwise
from statistics import median

import build
import nbformat
import pytest
from build import NOTEBOOK, PUBLISHED, README, ROOT, code_cells, figures
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

INSTALLED = {"torch", "numpy", "matplotlib", "IPython", "tqdm"}
THEIRS = "Nakshatra1729yuvi/GPT-2_ARCH_WITH_CLS"
JUPYTER = [sys.executable, "-m", "jupyter", "nbconvert"]
BOOK = nbformat.read(NOTEBOOK, as_version=4)
PROSE = "\n\n".join(c.source for c in BOOK.cells if c.cell_type == "markdown")
DESCRIBED = [cell for cell in BOOK.cells if "alt" in cell.metadata]


@pytest.fixture(scope="module")
def pages():
    return {name: build.page(BOOK, name) for name in ("classic", "lab", "basic")}


def outputs(notebook):
    return [output for code in code_cells(notebook) for output in code.outputs]


def said(notebook):
    """What each cell printed and returned, as text: (cell, text)."""
    for code in code_cells(notebook):
        for output in code.outputs:
            yield code.id, build.as_a_terminal_shows(output.get("text", ""))
            data = output.get("data", {})
            yield from ((code.id, data[kind]) for kind in data if "text/" in kind)


def call(*command, **options):
    return subprocess.run(command, capture_output=True, encoding="utf-8", **options)


def test_outputs_belong_to_code_data_and_record():
    fresh = BOOK.metadata.fingerprint == build.fingerprint(BOOK)
    assert fresh, "the stored outputs are stale: run tests/build.py"
    counts = [code.execution_count for code in code_cells(BOOK)]
    assert counts == list(range(1, len(counts) + 1))


def test_outputs_are_clean():
    assert build.as_a_terminal_shows("a\r10%\r    \rdone\nb") == "done\nb"
    for output in outputs(BOOK):
        assert output.output_type != "error" and output.get("name") != "stderr"
        assert "\r" not in output.get("text", "")
    for cell, text in said(BOOK):  # a table is one as plain text too
        assert not re.search(r"it/s|IPython.core.display|\bnan\b", text), cell
        assert not re.search(r"/(?:home|root|tmp|work|Users)/", text), cell
    assert "widgets" not in BOOK.metadata
    nbformat.validate(BOOK)


def test_what_is_known_by_heart_is_written():
    wrote = re.findall(r"(?:target:|birth:|writes) +(.+)", dict(said(BOOK))["memorise"])
    assert wrote[0] == wrote[-1] not in wrote[1:3]


def test_every_figure_is_small_and_described(pages):
    assert [cell.id for cell, _ in figures(BOOK)] == [cell.id for cell in DESCRIBED]
    assert all(len(png) < 4 / 3 * 100_000 for _, png in figures(BOOK))
    for html in pages.values():
        alts = re.findall(r'<img alt=(".*?"|\'.*?\') src="data:image/png', html)
        assert len(alts) == html.count("<img") == len(DESCRIBED) >= 8
        assert min(map(len, alts)) > 60
    assert all(cell.metadata.alt[:40] in pages["lab"] for cell in DESCRIBED)


def test_the_page_needs_no_network_and_has_a_title(pages):
    title = PROSE.splitlines()[0].removeprefix("# ")
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


def test_every_table_is_drawn_as_one(pages):
    tables = [
        PROSE,
        *(o.data.get("text/markdown", "") for o in outputs(BOOK) if "data" in o),
    ]
    rules = re.findall(r"(?m)^\|[ :|-]*-[ :|-]*\|$", "\n".join(tables))
    assert pages["basic"].count("<table") == len(rules) > 18


def test_cells_keep_to_the_house_rules():
    for code in code_cells(BOOK):
        assert max(map(len, code.source.splitlines())) <= 88, code.id
        for name in re.findall(r"^(?:import|from) (\w+)", code.source, flags=re.M):
            assert name in INSTALLED | sys.stdlib_module_names, f"{code.id}: {name}"
    for language, block in re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", PROSE):
        assert language or max(map(len, block.splitlines())) <= 36, block
    tables = "\n".join([PROSE, *(text for _, text in said(BOOK))])
    for rule in re.findall(r"^\|([ :|-]*-[ :|-]*)\|$", tables, flags=re.M):
        # Else one template aligns to the left and another to the right.
        assert all(":" in column for column in rule.split("|")), rule


def test_sizes():
    """What is over its limit, as (what, size, limit)."""
    words, lines, part = [], [], {}
    for index, cell in enumerate(BOOK.cells):
        text = cell.cell_type == "markdown"
        words.append(len(re.findall(r"\S*\w\S*", cell.source)) if text else 0)
        lines.append(0 if text else len(re.findall(r"\S.*", cell.source)))
        part |= dict.fromkeys(re.findall(r"(?m)^## (\d+) ", cell.source), index)
    sizes = [
        ("words of prose", sum(words), 10_477),
        ("words in parts 10 to 16", sum(words[part["10"] : part["17"]]), 3_711),
        ("lines of code", sum(lines), 1_350),
        ("lines of code before part 17", sum(lines[: part["17"]]), 1_125),
        ("lines in the median cell", median(filter(None, lines)), 12),
        ("lines in the longest cell", max(lines), 30),
        ("bytes of the notebook", NOTEBOOK.stat().st_size, 500_000),
        ("words in README.md", len(README.read_text("utf-8").split()), 700),
    ]
    assert [entry for entry in sizes if entry[1] > entry[2]] == []


def test_headings_and_links():
    """A link to a part leads to an anchor, in lower case, on the line before its heading."""
    text = re.sub(r"(?s)```.*?```", "", PROSE)
    headings = re.findall(r"^(#+) (.+)$", text, flags=re.M)
    assert all(len(b[0]) <= len(a[0]) + 1 for a, b in pairwise(headings))
    parts = re.findall(r'^<a id="part-(\d+)"></a>\n+## (\d+) ', text, flags=re.M)
    numbers = [title.split()[0] for _, title in headings if title[0].isdigit()]
    assert numbers == [str(n) for n in range(1, len(numbers) + 1)]
    assert parts == [(n, n) for n in numbers]
    anchors = re.findall(r'<a id="(.*?)"></a>', text)
    assert len(set(anchors)) == len(anchors)
    links = set(re.findall(r"\]\(#(.*?)\)", text))
    assert {f"part-{n}" for n in numbers} <= links <= set(anchors)


def test_one_address_everywhere():
    address = build.home(BOOK)
    slug = address.removeprefix("https://github.com/")
    here = os.environ.get("GITHUB_REPOSITORY", slug)
    command = f"python tests/build.py --home https://github.com/{here}"
    assert slug == here, f"the notebook names another project, run: {command}"
    paths = [*build.WITH_ADDRESS, ROOT / "data" / "README.md"]
    book, readme, cite, *more = [path.read_text("utf-8") for path in paths]
    badge = f"https://colab.research.google.com/github/{slug}/blob/main/{NOTEBOOK.name}"
    assert badge in book and f"repository-code: {address}\n" in cite
    web = "https://{}.github.io/{}/".format(*slug.split("/"))
    assert all(wanted in readme for wanted in (badge, rf"\url{{{address}}}", web))
    for text in (book, readme, cite, *more):  # the published project, as it was then
        links = re.findall(rf"{re.escape(THEIRS)}(?!/(?:tree|blob)/{PUBLISHED})", text)
        assert slug == THEIRS or not links


def test_home_moves_what_is_ours():
    old, new = "https://github.com/OWNER/REPOSITORY", "https://github.com/a-b/c.d"
    ours = '"{0}" {0}/issues. https://raw.githubusercontent.com/{1}/{2}/main/ '
    ours += "https://{1}.github.io/{2}/"
    theirs = f"{old}/tree/{PUBLISHED} {old}-2 https://github.com/karpathy/nanoGPT"
    before, after = (ours.format(x, *x.split("/")[-2:]) for x in (old, new))
    assert build.moved(f"{before} {theirs}", old, new) == f"{after} {theirs}"


def test_the_guides_name_files_that_exist():
    guides = [
        (ROOT / name).read_text("utf-8") for name in ("README.md", "CONTRIBUTING.md")
    ]
    for name in re.findall(
        r"[`(]((?:data|tests|\.ci|\.github)/[\w.]+)", "".join(guides)
    ):
        assert (ROOT / name).exists(), name


def test_git_stores_the_same_bytes_on_every_system():
    if not (ROOT / ".git").exists():
        pytest.skip("no git here")
    names = ["data/runs.jsonl", NOTEBOOK.name, "data/shakespeare.npz"]
    run = call("git", "-C", ROOT, "check-attr", "eol", "text", "--", *names)
    values = [line.split(": ")[2] for line in run.stdout.splitlines()]
    assert values == ["lf", "auto", "lf", "auto", "lf", "unset"]


def test_the_readme_command_shows_a_bar_and_leaves_none(tmp_path):
    """On a small notebook, with all that a page must keep."""
    command = f"jupyter nbconvert --config .nbconvert.py {NOTEBOOK.name}"
    assert command in README.read_text("utf-8")
    code = """
import os, sys
from tqdm import tqdm
for _ in tqdm(range(3), file=sys.stdout, leave=False):
    pass
print("kept:", os.environ["MALLOC_TRIM_THRESHOLD_"])"""
    text = "# One & two\n\n$p_i$ costs `$5`: $$\\sum_{i=1}^n a < b$$"
    small = new_notebook(cells=[new_markdown_cell(text), new_code_cell(code)])
    nbformat.write(small, tmp_path / "small.ipynb")
    command = [*JUPYTER, "--config", ROOT / ".nbconvert.py", "small.ipynb"]
    run = call(*command, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    html = (tmp_path / "small.html").read_text("utf-8")
    assert "0/3" in run.stdout and "0/3" not in html and f"kept: {2**30}" in html
    assert not re.search("warning|frozen|encryption", run.stderr, flags=re.I)
    assert "<title>One &amp; two</title>" in html and "<code>$5</code>" in html
    assert html.count("<math") == 2 and "<munderover><mo>∑</mo>" in html


@pytest.mark.slow
def test_a_quick_run_draws_all_warns_of_nothing_and_can_be_repeated():
    """Every cell, run again after all others, says the same."""
    client = build.client(nbformat.read(NOTEBOOK, as_version=4))
    environ, texts = os.environ | {"QUICK": "1"}, []
    environ.pop("MPLBACKEND")  # conftest's, for the definitions: here figures are drawn
    with client.setup_kernel(env=environ):
        for _ in "12":
            for index, cell in enumerate(client.nb.cells):
                client.execute_cell(cell, index)
            assert not [o.text for o in outputs(client.nb) if o.get("name") == "stderr"]
            drawn = [cell.id for cell, _ in figures(client.nb)]
            assert drawn == [cell.id for cell in DESCRIBED]
            texts.append(list(said(client.nb)))
    assert texts[0] == texts[1]


@pytest.mark.slow
def test_it_runs_as_a_script_from_elsewhere_on_an_own_text(tmp_path):
    lesson, elsewhere = tmp_path / "lesson", tmp_path / "elsewhere"
    lesson.mkdir()
    elsewhere.mkdir()
    os.symlink(ROOT / "data", lesson / "data")
    call(*JUPYTER, "--to", "script", "--output-dir", lesson, NOTEBOOK, check=True)
    text = "the cat and a dog walk over old hills while rain falls on quiet stone"
    words = text.split()
    lines = [" ".join(words[i % 13 :] + words[: i % 7]) for i in range(2500)]
    (elsewhere / "my_book.txt").write_text("\n".join(lines), "utf-8")
    environ = os.environ | {"QUICK": "1", "DATA_FILE": "my_book.txt"}
    script = lesson / NOTEBOOK.with_suffix(".py").name
    run = call(sys.executable, script, cwd=elsewhere, env=environ)
    assert run.returncode == 0, run.stderr[-3000:]
    assert "Warning" not in run.stderr and "download" not in run.stdout
    assert os.listdir(elsewhere) == ["my_book.txt"]
