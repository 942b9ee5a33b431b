"""The file data/runs.jsonl, and what ties its lines to the notebook.

A run depends on the notebook's definitions, which are the imports, functions, classes
and CONSTANTS of its code cells; everything else there is only shown.
"""

import ast
import functools
import hashlib
import json
import os
from operator import itemgetter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK, RECORD = ROOT / "R_11_CLS_TOKEN_IN_GPT.ipynb", ROOT / "data" / "runs.jsonl"
JOB = itemgetter("experiment", "arm", "seed")
MADE = {"torch", "device", "processor", "source"}  # at least
# In nats. On another processor rounding differs, and grows over a training. There a run
# agrees if its first ten losses and its last held-out loss are no further apart.
TOLERANCE = 1e-3


def definitions():
    """Return the source of the notebook's definitions, without comments, docstrings."""
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    tree = ast.parse("\n".join(code))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return "\n".join(ast.unparse(node) for node in tree.body if defined(node))


def defined(node):
    """Return the names that a statement defines, none if it only shows something."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if not isinstance(node, ast.Assign | ast.AugAssign):
        return []
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    parts = [part for target in targets for part in getattr(target, "elts", [target])]
    names = [getattr(part, "id", "") for part in parts]
    return names if all(name.isupper() and len(name) > 1 for name in names) else []


@functools.cache
def pieces(source):
    """Return {name: (code, names in it)} of the definitions, and of each single arm."""
    found = {}
    for node in ast.parse(source).body:
        parts = dict.fromkeys(defined(node), node)
        if "ARMS" in parts:
            names = [f"arm {name.value}" for name in node.value.keys]
            parts = dict(zip(names, node.value.values, strict=True))
        for name, part in parts.items():
            code, used = found.get(name, ("", set()))
            used = used | {n.id for n in ast.walk(part) if isinstance(n, ast.Name)}
            found[name] = code + ast.unparse(part) + "\n", used
    return found


def checksum(lesson, experiment, arm):
    """Return a checksum of the code that a run reaches, not of settings."""
    setting, found, reached = lesson.EXPERIMENTS[experiment], pieces(lesson.SOURCE), {}
    kinds = type(setting.config), type(setting.recipe)  # their methods
    roots = [setting.data, *setting.measures, *kinds]
    todo = {"run", f"arm {arm}"} | {root.__name__ for root in roots}
    while todo:
        name = todo.pop()
        reached[name], used = found[name]
        # What is fetched is in the key, by its checksum; from where, a run is the same.
        todo |= (used & found.keys()) - reached.keys() - {"EXPERIMENTS", "fetch"}
    return digest(reached)


def key(lesson, experiment, arm, seed):
    """Return a checksum of a run's parameters and data."""
    setting = lesson.EXPERIMENTS[experiment]
    parts = repr(setting.config), repr(setting.recipe), lesson.PLAYS_SHA256
    return digest([experiment, arm, seed, *parts])


def digest(value):
    """Return a short checksum of what JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def known(lesson, job):
    """Return True if the notebook still has the experiment and the arm of a run."""
    return job[0] in lesson.EXPERIMENTS and job[1] in lesson.ARMS


def fits(lesson, run):
    """Return True if today's code, parameters and data are those that made a run."""
    made, job = run["made"], JOB(run)
    code = made.get("certified", made["source"]) == checksum(lesson, *job[:2])
    return code and run["key"] == key(lesson, *job)


def read(lesson):
    """Return the record, and the length of its file without a last line torn off."""
    content = RECORD.read_bytes() if RECORD.exists() else b""
    size = content.rfind(b"\n") + 1
    odd = b"\0" in content or content[size : size + 1] not in b"{"
    if odd or not content.isascii():
        what = "is it UTF-16, or has it a byte-order mark or a bad byte?"
        raise ValueError(
            f"{RECORD.name}: not JSON lines in ASCII ({what}); fetch it anew."
        )
    runs = lesson.Record()
    lines = content[:size].decode("ascii").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            run = json.loads(line)
            assert "NaN" not in line and "Infinity" not in line, "not a finite number"
            assert "held_out" in run or "broke" in run, "no losses"
            assert run["key"] and run["made"].keys() >= MADE, "how was it made?"
            assert JOB(run) not in runs, f"{JOB(run)} stands there twice"
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            remedy = "Delete the line, and data/runs.py does it again."
            place = f"{RECORD.name}, line {number}"
            raise ValueError(f"{place}: {error!r}. {remedy}") from None
        runs[JOB(run)] = run
    return runs, size


def append(line):
    """Append a run to the record, whole or not at all. OSError if the disk is full."""
    size = RECORD.stat().st_size
    try:
        with open(RECORD, "a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        os.truncate(RECORD, size)
        raise


def certify(lesson, jobs):
    """Note in recorded runs that today's code gives them; replace the whole file."""
    text, part = RECORD.read_text("utf-8"), RECORD.with_suffix(".part")
    with open(part, "w", encoding="utf-8", newline="\n") as file:
        for line in text[: text.rfind("\n") + 1].splitlines():
            run = json.loads(line)
            if JOB(run) in jobs:
                run["made"]["certified"] = checksum(lesson, *JOB(run)[:2])
            file.write(json.dumps(run) + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(RECORD)


def apart(old, new):
    """Return the largest difference of two values; infinity if of another form."""
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return max(map(apart, old, new), default=0)
    numbers = isinstance(old, int | float) and isinstance(new, int | float)
    return abs(old - new) if numbers else 0 if old == new else float("inf")


def compare(old, new):
    """Return in words how a run done again compares, and True if it agrees."""
    gaps = {name: apart(old.get(name), new.get(name)) for name in old | new}
    gaps = {name: gap for name, gap in gaps.items() if gap and name != "made"}
    if not gaps:
        return "agrees in every digit", True
    made = [{"gpu": run["made"]["processor"]} | run["made"] for run in (old, new)]
    there, here = map("{gpu}, {device}, torch {torch}".format_map, made)
    where = f"(recorded on {there}, done on {here})"
    first, held_out = gaps.get("first", 0), gaps.get("held_out", 0)
    alike = old.keys() == new.keys() and not gaps.keys() & {"key", "broke"}
    if alike and there != here and first <= TOLERANCE and held_out < float("inf"):
        end = apart(old.get("held_out", [])[-1:], new.get("held_out", [])[-1:])
        words = (
            f"rounding: first updates agree to {first:.1g}, held out at most {end:.1g}"
        )
        return f"{words} nats apart at the end {where}", end <= TOLERANCE
    sizes = ", ".join(f"{name} by {gap:.2g}" for name, gap in gaps.items())
    return f"DIFFERS in {sizes.replace('by inf', '(of another form)')} {where}", False
