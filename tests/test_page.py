"""The page that a reader gets: outputs, sentences, figures, links, and one whole run."""

import os
import re
import subprocess
import sys
from itertools import pairwise

import nbformat
import pytest
from build import (
    NOTEBOOK,
    README,
    ROOT,
    as_a_terminal_shows,
    code_cells,
    fingerprint,
    page,
)
from sentences import SENTENCES, numbers, written

ALLOWED = {"json", "math", "os", "sys", "dataclasses", "pathlib", "matplotlib", "numpy"}
ALLOWED |= {"torch", "IPython", "tqdm", "collections", "hashlib"}


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def measured(lesson, record):
    return numbers(lesson, record)


def outputs(notebook):
    return [output for code in code_cells(notebook) for output in code.outputs]


def text_of(output):
    return output.get("text") or output.get("data", {}).get("text/markdown", "")


def test_outputs_belong_to_code_data_and_record(notebook):
    assert notebook.metadata.fingerprint == fingerprint(notebook), (
        "the stored outputs are stale: run tests/build.py"
    )
    counts = [code.execution_count for code in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_outputs_are_clean(notebook):
    for output in outputs(notebook):
        assert output.output_type != "error"
        assert output.get("name") != "stderr"
        text = text_of(output)
        assert "it/s" not in text and "\r" not in text
        assert not re.search(r"/(?:home|root|tmp|work|Users)/", text)
        assert not re.search(r"\bnan\b", text)
    assert "widgets" not in notebook.metadata
    assert NOTEBOOK.stat().st_size < 500_000


def test_every_figure_is_small_and_described(notebook):
    drawn = [
        code
        for code in code_cells(notebook)
        if any("image/png" in output.get("data", {}) for output in code.outputs)
    ]
    assert len(drawn) >= 10
    for code in drawn:
        assert len(code.metadata.get("alt", "")) > 60, code.id
        for output in code.outputs:
            assert len(output.get("data", {}).get("image/png", "")) < 4 / 3 * 100_000
    assert {c.id for c in code_cells(notebook) if "alt" in c.metadata} == {
        c.id for c in drawn
    }
    html = page(notebook)
    assert all(code.metadata.alt[:40] in html for code in drawn)
    assert not re.search(r'<(?:script|link|img)[^>]+(?:src|href)="https?:', html)


def test_cells_keep_to_the_house_rules(notebook):
    previous = None
    for cell in notebook.cells:
        if cell.cell_type == "code":
            lines = cell.source.splitlines()
            assert sum(bool(line.strip()) for line in lines) <= 40, cell.id
            assert max(map(len, lines)) <= 88, cell.id
            assert previous == "markdown", cell.id
            for name in re.findall(r"^(?:import|from) (\w+)", cell.source, flags=re.M):
                assert name in ALLOWED, f"{cell.id} imports {name}"
        previous = cell.cell_type


def test_headings_and_links(notebook):
    prose = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    headings = re.findall(r"^(#+) (.+)$", prose, flags=re.M)
    levels = [len(marks) for marks, _ in headings]
    assert all(b <= a + 1 for a, b in pairwise(levels))
    anchors = {title.replace(" ", "-") for _, title in headings}
    links = re.findall(r"\]\(#([^)]*(?:\([^)]*\)[^)]*)*)\)", prose)
    assert links and set(links) <= anchors
    parts = [int(title.split()[0]) for _, title in headings if title[0].isdigit()]
    assert parts == list(range(1, 18))


@pytest.mark.parametrize("place", SENTENCES)
def test_sentence_says_what_was_measured(notebook, measured, place):
    text = written(place, measured)
    if place.startswith("README"):
        assert text in README.read_text("utf-8")
    else:
        assert text in next(c for c in notebook.cells if c.id == place).source


def test_no_measured_number_stands_outside_a_sentence(notebook, measured):
    """Numbers with a point or a per cent sign in parts 10 to 17 and the README."""
    sentences = [written(place, measured) for place in SENTENCES]
    cells = [c.source for c in notebook.cells if c.cell_type == "markdown"]
    start = next(i for i, text in enumerate(cells) if text.startswith("## 10"))
    text = "\n".join([cells[0], *cells[start:], README.read_text("utf-8")])
    for sentence in sentences:
        text = text.replace(sentence, "")
    text = re.sub(r"```.*?```|\(https?[^)]*\)|arXiv:[\d.]+", "", text, flags=re.S)
    found = set(re.findall(r"[-+−]?\d+\.\d+(?: ?%)?|\d+ %", text))
    constants = {
        "34.51 %", "34.53 %", "99.5 %", "99.9 %", "95 %", "0.5 %", "0.1 %",
        "0.0003", "0.003", "0.01", "0.02", "0.031", "0.05", "0.1", "0.2", "0.3",
        "0.8", "1.44", "2.13", "3.11", "3.50", "4.6", "6.9", "10.82", "11.5",
    }  # fmt: skip
    assert found == constants, f"differs by {found ^ constants}"


def test_readme_names_files_that_exist():
    for name in re.findall(
        r"`((?:data|tests|\.ci)/[\w.]+)`", README.read_text("utf-8")
    ):
        assert (ROOT / name).exists() or name == "data/own_text.npz", name


def solutions(notebook):
    cell = next(c for c in notebook.cells if "### Exercises" in c.source)
    return re.findall(r"```python\n(.*?)```", cell.source, flags=re.S)


EXPECTED = [
    lambda answer: abs(answer - 1 / 6) < 0.03,
    lambda answer: answer == 21_247 * 256,
    lambda answer: answer < 1e-5,
    lambda answer: answer > 1e-3,
    lambda answer: answer[-1] < answer[0] / 2,
    lambda answer: answer < 1e-4,
    lambda answer: 0.03 < answer < 0.07,
    lambda answer: answer == 20,
]


@pytest.mark.slow
def test_solutions_give_what_the_exercises_expect(notebook, source, record):
    import runs

    lesson = runs.load(source + "\n# exercises\n")  # a module of its own: they add arms
    vars(lesson)["record"] = record
    answers = solutions(notebook)
    assert len(answers) == len(EXPECTED)
    for number, (code, expected) in enumerate(zip(answers, EXPECTED, strict=True), 1):
        exec(code, vars(lesson))
        assert expected(lesson.answer), f"exercise {number}: {lesson.answer}"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The README's first command, quick, by a teacher who changed the defaults, on an own text,
    in a folder and a shell of bad habits."""
    folder = tmp_path_factory.mktemp("reader")
    os.symlink(ROOT / "data", folder / "data")
    source = NOTEBOOK.read_text("utf-8")
    for size in ("epochs: int = 5", "block_size: int = 64", "n_embd: int = 256"):
        name, number = size.split(" = ")
        assert source.count(size) == 1
        source = source.replace(size, f"{name} = {int(number) * 3 // 4}")
    (folder / NOTEBOOK.name).write_text(source, "utf-8")
    text = "the cat and a dog walk over old hills while rain falls on quiet stone"
    words = text.split()
    lines = [" ".join(words[i % 13 :] + words[: i % 7]) for i in range(1500)]
    (folder / "own.txt").write_text("\n".join(lines), "utf-8")
    prepare = [
        sys.executable,
        ROOT / "data" / "prepare.py",
        "--text",
        folder / "own.txt",
    ]
    made = folder / "own.npz"
    subprocess.run([*prepare, "--vocab-size", "300", "--out", made], check=True)
    (folder / "matplotlibrc").write_text("axes.facecolor: black\nbackend: agg\n")
    environ = os.environ | {"QUICK": "1", "DATA_FILE": str(made), "MPLBACKEND": "agg"}
    command = re.search(
        r"\.venv/bin/(jupyter nbconvert .*)", README.read_text("utf-8")
    )[1]
    options = command.split()[2:]
    jupyter = [sys.executable, "-m", "nbconvert", *options]
    run = subprocess.run(
        jupyter, cwd=folder, env=environ, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return run, (folder / NOTEBOOK.with_suffix(".html").name).read_text("utf-8")


@pytest.mark.slow
def test_the_main_command_leaves_a_clean_page(notebook, executed):
    run, html = executed
    assert "Warning" not in run.stderr and "Traceback" not in run.stderr
    assert "it/s" in run.stdout  # progress was shown on the way
    assert "it/s" not in html and "%|" not in html
    drawn = [c for c in code_cells(notebook) if "alt" in c.metadata]
    assert html.count("data:image/png") >= len(drawn)
    assert all(c.metadata.alt[:40] in html for c in drawn)


@pytest.mark.slow
def test_an_own_text_trains_the_pair_and_leaves_the_study_alone(executed):
    html = executed[1]
    assert "300 tokens in the vocabulary" in html
    assert "the record agrees" in html
    assert "5 of 5 published values" in html


def test_bars_are_taken_out_of_stored_text():
    assert as_a_terminal_shows("a\r10%\r    \rdone\nb") == "done\nb"


def test_github_can_show_it(notebook):
    nbformat.validate(notebook)
