"""The prose against the record; published values; what the exercises' solutions give."""

import functools
import json
import re
from inspect import getmembers, isfunction

import numpy as np
import pytest
import record as recorded
import runs
import sentences
from sentences import TEN

WORD = "slightly ahead|slightly behind|ahead|behind|equal|open|impossible|not asked"
TOKEN = re.compile(  # a number with a point, % or ±; a word in italics or in a table
    r"(?:(?<![\w.])[-+−])?(?<![\w.])\d[\d,]*\.\d+(?: ?%)?|\d+ ?%|(?<=± )\d+|\d+(?= ±)"
    rf"|(?<=\*)(?i:{WORD})(?=\*)|(?<=\| )(?:{WORD})(?= \|)"
)
NOT_PROSE = r"(?s)```.*?```|`[^`]*`|\]\([^)]*\)|<https?:[^>]*>|arXiv:[\d.]+"


def texts():
    """The front, parts 10 to 18 with their alt texts, and the README: {cell: text}."""
    cells = json.loads(recorded.NOTEBOOK.read_text("utf-8"))["cells"]
    start = [cell["id"] for cell in cells].index("study")
    found = {"README.md": (recorded.ROOT / "README.md").read_text("utf-8")}
    for cell in cells[:1] + cells[start:]:
        prose, alt = "".join(cell["source"]), cell["metadata"].get("alt", "")
        found[cell["id"]] = prose if cell["cell_type"] == "markdown" else alt
    return found


TEXTS, SAYS = texts(), dict(getmembers(sentences, isfunction))


class Study:
    """The lesson bound to the record, and shorthands; verdicts are (mean, half, word)."""

    def __init__(self, lesson, record):
        self.lesson, self.record = lesson, record

    def __getattr__(self, name):
        found = getattr(self.lesson, name)
        names = found.__code__.co_varnames if isfunction(found) else ()
        return functools.partial(found, self.record) if "record" in names[:1] else found

    def claim(self, name, place):
        return self.judge(next(c for c in self.CLAIMS if c.name == name), place)

    def verdict(self, gaps, setting):
        mean, half = self.interval(setting.unit * gaps)
        return mean, half, self.word(mean, half, setting.margin)

    def minus(self, experiment, arm, against="vanilla"):
        """An arm's final losses minus another's, in nats."""
        arms = (experiment, arm), (experiment, against)
        return self.differences(self.final_loss, *arms)

    def ten(self, arm, change="", against="vanilla"):
        """The verdict on an arm, on the ten sentences."""
        return self.verdict(self.minus(TEN + change, arm, against), self.TEN)

    def best(self, setting, arm="CLS"):
        """The verdict on an arm, it and vanilla each at its best rate."""
        return self.verdict(self.tuned(setting, self.final_loss, arm), setting)

    def words(self, *verdicts):
        """The word, if they have the same."""
        return " or ".join(sorted({word for *_, word in verdicts}))

    def values(self, experiment, arm, measure=None, seeds=None):
        """A measure of an arm's runs, from seed 100 on if no seeds are given."""
        seeds = sorted(seeds or self.seeds_of(experiment, arm))
        runs = [self.record[experiment, arm, seed] for seed in seeds]
        return np.array([(measure or self.final_loss)(run) for run in runs])

    def hamlet_pairs(self):
        """What counting pairs of *Hamlet* pays on *Macbeth*, in nats."""
        macbeth = self.hamlet(self.DOCUMENTED, 0)[1]
        return self.counted_pairs(self.PLAYS.texts["Hamlet"], macbeth, 21_247)

    def gained(self, arm, change=""):
        """An arm minus vanilla after each epoch, on the ten sentences."""
        return self.lead(TEN + change, arm)[1][1:]

    def share(self, change=""):
        """The one-hot constant's share of the full one's lead."""
        arms = "one-hot constant", "constant"
        return np.divide(*(self.gained(arm, change)[-1] for arm in arms))

    def off_curve(self, change):
        """Vanilla's losses, and how far CLS's lead there is off AdamW's curve."""
        loss, gap = self.lead(TEN + change)
        return loss, gap - self.head_start(loss)


def written(token, value):
    """A value in the form of a token, with as many digits as stand there."""
    if isinstance(value, str) or token[0].isalpha():
        return str(value)
    number = token.rstrip(" %")
    sign, digits = "+" * (number[0] in "+−"), len(number.partition(".")[2])
    text = f"{value * (1 if number == token else 100):{sign},.{digits}f}"
    return text.replace("-", "−") + token.removeprefix(number)


def problems(text, measured, constants):
    """Yield what a text says wrongly, lacks, or nobody accounts for."""
    text = re.sub(NOT_PROSE, "", text)
    values, missing, spare = [], [], constants.split(", ") * bool(constants)
    for value in measured:
        if isinstance(value, LookupError):
            missing.append(str(value))
        elif isinstance(value, float) or value in WORD.split("|"):
            values.append(value)
        else:
            true, words = value if isinstance(value, tuple) else (True, value)
            if not true or words not in text:
                yield f"is it true, and does it stand there: {words}"
            text = text.replace(words, " ", 1)
    for token in (found.replace("-", "−").lower() for found in TOKEN.findall(text)):
        if values and token == written(token, values[0]):
            del values[0]
        elif token in spare:
            spare.remove(token)
        elif values or not missing:
            right = written(token, values.pop(0)) if values else "nothing more"
            yield f"{token} stands where the record gives {right}"
    yield from missing or [f"{value} does not stand there" for value in values + spare]


@pytest.mark.parametrize("cell", TEXTS)
def test_prose_says_what_was_measured(lesson, record, cell):
    measured, says = [], SAYS.get(re.sub(r"\W", "_", cell), lambda study: [])
    try:
        for value in says(Study(lesson, record)):
            measured.append(value)
    except LookupError as error:  # what came before it is compared
        measured.append(error)
    if found := [*problems(TEXTS[cell], measured, sentences.CONSTANTS.get(cell, ""))]:
        pytest.fail("\n".join([cell, *found]), pytrace=False)


def test_formulas_and_tables_belong_to_cells_and_claims(lesson):
    assert SAYS.keys() <= {re.sub(r"\W", "_", cell) for cell in TEXTS}
    assert sentences.CONSTANTS.keys() <= TEXTS.keys()
    for cell in ("front", "claims-text"):
        rows = re.findall(r"(?m)^\| ([^|]+) \|", TEXTS[cell])[1:]
        for claim, row in zip(lesson.CLAIMS, rows, strict=False):
            assert claim.name.split()[-1][:4].lower() in row, f"{cell}: {row}"


def test_the_published_values_are_those_of_the_published_readme(lesson):
    assert lesson.PUBLISHED == {
        "vanilla": [9.7825, 7.7361, 5.9231, 4.0605, 2.9458],
        "CLS": [8.1447, 5.8567, 3.4214, 2.5913, 1.9286],
    }


EXPECTED = [
    lambda a: abs(a - 1 / 6) < 0.03, lambda a: a == 21_247 * 256, lambda a: a < 1e-5,
    lambda a: a > 1e-3, lambda a: a[-1] < a[0] / 2, lambda a: a < 1e-4,
    lambda a: 0.03 < a < 0.07, lambda a: a == 20, lambda a: a == 21_247,
]  # fmt: skip


def test_solutions_give_what_the_exercises_expect(source, record):
    lesson = runs.load(source + "\n# exercises\n")  # a module of its own: they add arms
    vars(lesson)["record"] = record
    answers = re.findall(r"(?s)```python\n(.*?)```", TEXTS["exercises"])
    for code, expected in zip(answers, EXPECTED, strict=True):
        exec(code, vars(lesson))
        assert expected(lesson.answer), f"{code}\ngives {lesson.answer}"
