"""Sentences with measured numbers, and what the exercises' solutions give."""

import re

import nbformat
import pytest
from build import NOTEBOOK, README
from sentences import SENTENCES, numbers, written


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def measured(lesson, record):
    return numbers(lesson, record)


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
