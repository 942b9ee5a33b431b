"""data/runs.py and its record: what a run depends on, and that none is lost."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import psutil
import pytest
import runs
from conftest import ROOT
from filelock import FileLock

SHORT = """
CONFIG = GPTConfig(61, 16, 2, 2, 16, init="pytorch", cls_position=True)
SHORT = Recipe(epochs=40, batch_size=2, optimizer="AdamW")
EXPERIMENTS = {"short": Experiment(
    CONFIG, SHORT, ten_sentences, (split_loss, without_cls),
    dict.fromkeys(("vanilla", "CLS"), range(100, 103)),
)}
EXPERIMENTS |= {"empty": replace(EXPERIMENTS["short"], seeds={})}
"""
JOBS = [("short", arm, seed) for seed in (100, 101, 102) for arm in ("vanilla", "CLS")]
ANYWHERE = [("ten sentences", "CLS"), ("bytes", "vanilla"), ("documented", "constant")]


class House:
    """A copy of the project whose study has six runs of some seconds."""

    def __init__(self, path, source):
        self.path = path
        (path / "data").mkdir()
        shutil.copy(ROOT / "data" / "runs.py", path / "data")
        shutil.copy(ROOT / "data" / "shakespeare.npz", path / "data")
        self.record = path / "data" / "runs.jsonl"
        self.write(source + SHORT)
        spec = importlib.util.spec_from_file_location(
            "house", path / "data" / "runs.py"
        )
        self.runs = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.runs)

    def write(self, *cells):
        self.source = "\n".join(cells)
        cells = [{"cell_type": "code", "source": [cell]} for cell in cells]
        path = self.path / "R_11_CLS_TOKEN_IN_GPT.ipynb"
        path.write_text(json.dumps({"cells": cells}), "utf-8")

    def start(self, *args):
        """Start the script as a process."""
        command = [sys.executable, self.path / "data" / "runs.py", *map(str, args)]
        quick = {
            "OMP_NUM_THREADS": "1",
            "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "3s",
        }
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, env=os.environ | quick, **pipe)

    def lines(self):
        text = self.record.read_text("utf-8") if self.record.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def jobs(self):
        return [(run["experiment"], run["arm"], run["seed"]) for run in self.lines()]


def until(condition, seconds=90):
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


@pytest.fixture
def house(tmp_path, source, monkeypatch):
    monkeypatch.chdir(ROOT)  # afterwards, wherever the script went
    return House(tmp_path, source)


@pytest.fixture
def main(house, monkeypatch):
    """Return a function that calls the house's script in this process."""

    def main(*args):
        monkeypatch.setattr(sys, "argv", ["runs.py", *args])
        return house.runs.main()

    return main


# What a run depends on


def test_text_and_plots_change_no_checksum(source, tmp_path):
    """Comments, docstrings, statements in lower case, functions that draw."""
    book = json.loads(runs.NOTEBOOK.read_text("utf-8"))
    for cell in book["cells"]:
        text = "".join(cell["source"])
        for old in ("Multi-head causal", "Train `model` in place", "How to train"):
            text = text.replace(old, "Another docstring")
        lines = text.split("\n")
        if not any(line.lstrip().startswith('"""') for line in lines):
            lines = [line + "  # a comment" if line else line for line in lines]
        cell["source"] = "\n".join(lines) if cell["cell_type"] == "code" else text
    draw = "def draw_more(x):\n    plt.plot(x)\n\nonly_here = draw_more([1])"
    book["cells"].append({"cell_type": "code", "source": [draw]})
    path = tmp_path / "book.ipynb"
    path.write_text(json.dumps(book), "utf-8")
    other = runs.definitions(path)
    assert (
        "Another docstring" in other
        and "draw_more" in other
        and "only_here" not in other
    )
    for job in ANYWHERE:
        assert runs.checksum(other, *job) == runs.checksum(source, *job), job


@pytest.mark.parametrize(("old", "new", "changed", "same"), [
    ("masked_fill(~mask", "masked_fill(mask", ANYWHERE, []),
    ("0.1 + 0.9 * (1 +", "0.2 + 0.8 * (1 +", ANYWHERE, []),
    ("manual_seed(seed)\n    order", "manual_seed(0)\n    order", ANYWHERE, []),
    ("'gradient': norms.mean(axis=1)", "'gradient': norms.max(axis=1)", ANYWHERE, []),
    (
        "super().hidden(idx) + self.constant", "super().hidden(idx) - self.constant",
        [("bytes", "constant"), ("ten sentences", "one-hot constant")],
        [("bytes", "vanilla"), ("bytes", "CLS"), ("ten sentences", "bias")],
    ),
    (
        "(config, learned=False)", "(config, learned=True)",
        [("ten sentences", "frozen constant")], [("ten sentences", "constant")],
    ),
    (
        "the cat sleeps", "the dog sleeps",
        [("ten sentences", "vanilla"), ("ten sentences, SGD", "CLS")],
        [("bytes", "vanilla"), ("documented", "vanilla")],
    ),
    (
        "spread(data, n):", "spread(data, n, more=1):",
        [("bytes", "vanilla"), ("bytes, 150 kB", "CLS")],
        [("documented", "vanilla"), ("all plays", "CLS"), ("ten sentences", "CLS")],
    ),
    ("occurs.mean()", "occurs.max()", ANYWHERE[:1], ANYWHERE[1:]),
    ("place < 120", "place < 121", ANYWHERE[1:], ANYWHERE[:1]),
    ("'bytes': (BITS, 0.02)", "'bytes': (BITS, 0.03)", [], ANYWHERE),
    ("half <= margin", "half < margin", [], ANYWHERE),
])  # fmt: skip
def test_code_changes_the_checksum_of_the_runs_that_reach_it(
    source, old, new, changed, same
):
    assert source.count(old) == 1
    other = source.replace(old, new)
    for job in changed:
        assert runs.checksum(other, *job) != runs.checksum(source, *job), job
    for job in same:
        assert runs.checksum(other, *job) == runs.checksum(source, *job), job


def test_keys_tell_all_runs_apart(lesson, monkeypatch):
    """By experiment, arm and seed; and by each number of config, recipe and data."""
    jobs = runs.grid(lesson, None)
    assert len({runs.key(lesson, *job) for job in jobs}) == len(jobs) == len(set(jobs))
    setting = lesson.EXPERIMENTS["bytes"]
    others = [
        replace(setting, config=replace(setting.config, dropout=0.01)),
        replace(setting, recipe=replace(setting.recipe, clip=1.1)),
        replace(
            setting, recipe=replace(setting.recipe, options={"betas": (0.9, 0.98)})
        ),
    ]
    keys = {runs.key(lesson, "bytes", "CLS", 100)}
    for other in others:
        monkeypatch.setitem(lesson.EXPERIMENTS, "bytes", other)
        keys.add(runs.key(lesson, "bytes", "CLS", 100))
    monkeypatch.undo()
    monkeypatch.setattr(lesson, "PLAYS_SHA256", "0")
    assert len(keys | {runs.key(lesson, "bytes", "CLS", 100)}) == 5


def test_the_grid_is_that_of_the_experiments(lesson, record):
    """Its arms exist, its seeds begin at 100 (the pilot's at 99); nothing else was recorded."""
    jobs = runs.grid(lesson, None)
    for name, setting in lesson.EXPERIMENTS.items():
        assert set(setting.seeds) <= set(lesson.ARMS), name
        first = 99 if name == "all plays" else 100
        assert all(min(seeds) >= first for seeds in setting.seeds.values()), name
        mine = [job for job in jobs if job[0] == name]
        assert len(mine) == sum(map(len, setting.seeds.values()))
        assert mine == runs.grid(lesson, name)
    assert not [job for job in set(record) - set(jobs) if job[2] >= 100]


@pytest.mark.skipif("FAULT" in os.environ, reason="a planted fault changes definitions")
def test_every_recorded_run_was_made_by_these_definitions(lesson, source, record):
    stale = [job for job, run in record.items() if not runs.fits(source, run)]
    assert all(run["made"]["threads"] == 1 for run in record.values())
    size = runs.RECORD.stat().st_size / len(record) * len(runs.grid(lesson, None))
    assert size < 5e6  # of the whole study
    assert not stale, (
        f"{len(stale)} runs of data/runs.jsonl were made by other definitions, "
        f"parameters or data: {stale[:5]}. If none of their numbers can have changed, "
        "certify them: python data/runs.py --check 5. Otherwise delete their lines "
        "and make them again: python data/runs.py."
    )


# The file


def test_a_run_is_appended_whole_or_not_at_all(tmp_path):
    """On a disk with no more room than 100 bytes."""
    resource = pytest.importorskip("resource")
    path, line = tmp_path / "runs.jsonl", {"last": [1.0] * 100}
    runs.append(line, path)
    runs.append(line, path)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    assert [json.loads(text) for text in before.splitlines()] == [line, line]
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
    try:
        with pytest.raises(OSError):
            runs.append(line, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    with pytest.raises(ValueError):
        runs.append({"last": [float("nan")]}, path)
    assert path.read_bytes() == before


def test_a_torn_last_line_is_cut(lesson, tmp_path, capsys):
    path = tmp_path / "runs.jsonl"
    assert runs.read(lesson, path) == {}
    line = {"experiment": "bytes", "arm": "CLS", "seed": 1}
    path.write_text(json.dumps(line) + "\n" + json.dumps(line)[:20], "utf-8")
    assert runs.read(lesson, path) == {("bytes", "CLS", 1): line}
    assert "torn off" in capsys.readouterr().out
    assert runs.read(lesson, path) and capsys.readouterr().out == ""
    runs.append(line | {"seed": 2}, path)
    assert len(runs.read(lesson, path)) == 2


@pytest.mark.parametrize(("args", "words"), [
    (["--only", "long"], ["--only long", "short"]),
    (["--device", "gpu"], ["--device gpu", "not on this machine"]),
    (["--device", "cuda:99"], ["--device cuda:99"]),
])  # fmt: skip
def test_unknown_names_are_refused(main, capsys, args, words):
    with pytest.raises(SystemExit) as caught:
        main(*args)
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert all(word in message for word in words)


def test_only_one_script_writes_and_a_full_disk_says_how_to_go_on(
    main, house, monkeypatch
):
    with FileLock(house.record.with_suffix(".lock")):
        assert "wait for its end" in main()
    assert not house.record.exists()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(house.runs, "make", full)
    assert "No space left" in main() and "start again to go on" in main()


def test_runs_of_other_definitions_are_refused(main, house, source):
    """Before anything is computed; the message says what to do."""
    lesson = house.runs.load(house.runs.definitions())
    run = dict(zip(("experiment", "arm", "seed"), JOBS[1], strict=True))
    checksum = house.runs.checksum(house.runs.definitions(), *JOBS[1][:2])
    run |= {"key": house.runs.key(lesson, *JOBS[1]), "made": {"source": checksum}}
    house.runs.append(run, house.record)
    for old, new in (
        ("masked_fill(~mask", "masked_fill(mask"),
        ("epochs=40", "epochs=39"),
    ):
        assert house.source.count(old) == 1
        house.write(house.source.replace(old, new))
        message = main()
        assert "1 runs" in message and str(JOBS[1]) in message
        assert "--check 5" in message and "delete" in message
        house.write(house.source.replace(new, old))
    assert house.lines() == [run]
    run["made"] = {"source": "of old"}
    assert not house.runs.fits(house.source, run)
    run["made"]["certified"] = checksum
    assert house.runs.fits(house.source, run)
    gone = run | {"experiment": "gone", "made": {"source": "of old"}}
    record = {JOBS[1]: run, ("gone", *JOBS[1][1:]): gone}
    run["made"].pop("certified")
    house.runs.certify(record, [JOBS[1]], house.source, house.record)
    assert run["made"]["certified"] == checksum and house.lines() == [run, gone]


# Whole studies, in processes of their own


@pytest.mark.slow
def test_a_study_and_its_check(lesson, house, monkeypatch):
    """It records what the notebook gives; `--check` sees a change, or certifies."""
    monkeypatch.setattr(lesson, "EXPERIMENTS", dict(lesson.EXPERIMENTS))
    exec(SHORT, vars(lesson))
    script = house.start("--workers", 2)
    assert script.wait(120) == 0, script.stdout.read()
    assert sorted(house.jobs()) == sorted(JOBS)
    for run in house.lines()[:2]:
        _, expected = lesson.run(run["experiment"], run["arm"], run["seed"])
        for name, value in expected.items():  # six digits are kept
            assert np.allclose(run[name], value, rtol=1e-5, atol=1e-6), name
    made = house.record.read_bytes()
    script = house.start("--check", 3, "--workers", 2)
    output = script.communicate(timeout=120)[0]
    assert script.returncode == 0 and output.count("agrees in every digit") == 3, output
    assert house.record.read_bytes() == made  # nothing was stale
    altered = house.lines()
    # Four runs are stale; one of them was made by an arm that nobody knows any more.
    for run in altered[:4]:
        run["made"]["source"] = "of old"
    altered[3]["arm"] = "gone"
    text = "".join(json.dumps(run) + "\n" for run in altered)
    house.record.write_text(text, "utf-8")
    script = house.start("--check", 2, "--workers", 2)
    output = script.communicate(timeout=120)[0]
    assert script.returncode == 0 and output.count("agrees in every digit") == 2, output
    certified = ["certified" in run["made"] for run in house.lines()]
    assert certified == [True, True, True, False, False, False]
    altered = house.lines()
    altered[-1]["held_out"][-1] += 1e-5
    altered[-1]["made"]["certified"] = "of old"  # so it is the one that is done again
    text = "".join(json.dumps(run) + "\n" for run in altered)
    house.record.write_text(text, "utf-8")
    script = house.start("--check", 1, "--workers", 1)
    output = script.communicate(timeout=120)[0]
    assert script.returncode == 1 and "DIFFERS, by 1e-05" in output, output
    assert "1 of 1 runs differ" in output
    assert house.lines() == altered
    script = house.start("--check", 1, "--only", "empty", "--workers", 1)
    output = script.communicate(timeout=120)[0]
    assert script.returncode == 1 and "nothing to check" in output, output


@pytest.mark.slow
def test_whatever_is_killed_no_run_is_lost(house):
    """The script, then one of its workers; and a line is torn."""
    script = house.start("--workers", 2)
    until(house.lines)
    workers = psutil.Process(script.pid).children(recursive=True)
    assert script.poll() is None and len(house.lines()) < 6
    script.kill()
    script.wait()
    assert not psutil.wait_procs(workers, timeout=60)[1]
    found = house.lines()
    with house.record.open("a", encoding="utf-8") as file:
        file.write(json.dumps(found[0])[:100])
    script = house.start("--workers", 2)
    until(
        lambda: (
            house.record.read_bytes().endswith(b"\n")
            and len(house.lines()) > len(found)
        )
    )
    workers = psutil.Process(script.pid).children(recursive=True)
    worker = next(w for w in workers if "spawn_main" in "".join(w.cmdline()))
    assert len(house.lines()) < 6
    os.kill(worker.pid, signal.SIGKILL)
    output = script.communicate(timeout=120)[0]
    assert script.returncode == 0 and "torn off" in output, output
    assert house.lines()[: len(found)] == found and Counter(house.jobs()) == Counter(
        JOBS
    )


@pytest.mark.slow
def test_a_cluster_that_exists(house, tmp_path):
    """A scheduler and two workers, started by hand; and an address without any."""
    address = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    common = ["--scheduler-file", address, "--no-dashboard"]
    quiet = {
        "cwd": house.path,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
    }
    started = [subprocess.Popen([*dask, "scheduler", *common, "--port", "0"], **quiet)]
    try:
        until(address.exists)
        worker = [*dask, "worker", *common, "--nthreads", "1", "--nworkers", "2"]
        started.append(subprocess.Popen(worker, **quiet))
        until(address.read_text)
        found = json.loads(address.read_text("utf-8"))["address"]
        script = house.start("--scheduler", found)
        output = script.communicate(timeout=120)[0]
        assert script.returncode == 0 and sorted(house.jobs()) == sorted(JOBS), output
        assert {run["made"]["threads"] for run in house.lines()} == {1}
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(30)
    house.record.unlink()
    script = house.start("--scheduler", found)
    output = script.communicate(timeout=60)[0]
    assert script.returncode == 1 and found in output and "start again" in output
    assert "Traceback" not in output.split("Every finished run")[0][-300:]
