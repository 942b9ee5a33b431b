"""data/runs.py and its record: what a run depends on, and that none is lost or wrong."""

import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import record
import runs
from distributed import Client, LocalCluster

# A study of eight runs; `second` waits for `first`, as if for the choice of a rate.
STUDY = """
import json, torch
from collections import namedtuple
PLAYS_SHA256, NEVER_USED = "HASH", 0
CONFIG = namedtuple("CONFIG", "size", defaults=[3])
SETTING = namedtuple("SETTING", "config recipe data measures")
class Recipe(namedtuple("Recipe", "rate", defaults=[0.1])):
    def step(self, x):
        "One update."
        return x - self.rate * x
def fetch(config): return config.size
def windows(config, seed):
    return torch.rand(fetch(config), generator=torch.manual_seed(seed)).to(DEVICE)
def spread(x): return {"spread": x.std().item()}
def double(config, x): return 2 * x
ARMS = {"plain": lambda config, x: x}
ARMS |= {"double": double}
EXPERIMENTS = {"first": SETTING(CONFIG(), Recipe(), windows, (spread,))}
EXPERIMENTS |= {"second": SETTING(CONFIG(4), Recipe(), windows, ())}
def run(setting, arm, seed):
    assert setting in EXPERIMENTS.values()
    x = arm(setting.config, setting.data(setting.config, seed))
    losses = [x.sum().item(), setting.recipe.step(x).sum().item()]
    results = {"held_out": losses, "first": losses[:1]}
    for measure in setting.measures: results |= measure(x)
    return x, results
def asked(record):
    jobs = [(e, a, s) for e in EXPERIMENTS for a in sorted(ARMS) for s in range(2)]
    wait = ["second waits for first"] * (not record.keys() >= set(jobs[:4]))
    return jobs[:4] * 2 if wait else jobs, wait
class Record(dict): pass
shown = plt.plot(ARMS)
""".replace("HASH", hashlib.sha256(b"plays").hexdigest())
ALL = [(e, a) for e in ("first", "second") for a in ("double", "plain")]
JOBS = [(*names, seed) for names in ALL for seed in (0, 1)]


def write(old="", new=""):
    """Write a notebook, with a change, and return its definitions."""
    study = STUDY.replace(old, new).splitlines(keepends=True)
    cells = [{"cell_type": "code", "source": study}]
    record.NOTEBOOK.write_text(json.dumps({"cells": cells}), "utf-8")
    return runs.load(runs.definitions())


def save(lines):
    record.RECORD.write_text("".join(json.dumps(line) + "\n" for line in lines))


def lines():
    return [json.loads(line) for line in record.RECORD.read_text().splitlines()]


def jobs():
    return sorted(map(record.JOB, lines()))


def start(*args):
    """Start a copy of the script as a process, whose runs take a second."""
    for module in (runs, record):
        shutil.copy(module.__file__, "data")
    write("    assert", "    import time; time.sleep(1)\n    assert")
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "data/runs.py", *args], **pipe)


def until(condition):
    end = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def main(tmp_path, monkeypatch, capsys):
    """Return a function that runs the script in a folder: its status, what it said."""
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/shakespeare.npz").write_bytes(b"plays")
    for module in (record, runs):
        monkeypatch.setattr(module, "ROOT", tmp_path)
        monkeypatch.setattr(module, "NOTEBOOK", tmp_path / runs.NOTEBOOK.name)
        monkeypatch.setattr(module, "RECORD", tmp_path / "data" / "runs.jsonl")
    monkeypatch.setattr(runs, "LOCK", runs.FileLock("data/runs.lock", timeout=0))
    record.RECORD.touch()
    write()

    def main(*args, threads=1):
        cluster = {"processes": False, "n_workers": 1, "threads_per_worker": threads}
        if "--scheduler" in args:
            cluster = {"address": args[1], "timeout": 1}
        monkeypatch.setattr(runs, "Client", lambda **_: Client(**cluster))
        monkeypatch.setattr(sys, "argv", ["runs.py", *map(str, args)])
        status, said = runs.main(), "".join(capsys.readouterr())
        assert type(status) is int and "Traceback" not in said
        return status, said

    return main


@pytest.mark.parametrize(("old", "new", "changed"), [
    ('"One update."', '"Another docstring."  # a comment', []),
    ("return config.size", "return 1 * config.size", []),  # where data come from
    ('"double": double', '"double": double, "more": windows', []),
    ("return 2 * x", "return 3 * x", [ALL[0], ALL[2]]),
    ("lambda config, x: x}", "lambda config, x: +x}", [ALL[1], ALL[3]]),
    ("x.std()", "x.var()", ALL[:2]),
    ("x - self.rate", "x + self.rate", ALL),
    ("manual_seed(seed)", "manual_seed(0)", ALL),
    ("=[3])", "=[4])", ALL),
    ("CONFIG(4)", "CONFIG(5)", []),  # in the key
])  # fmt: skip
def test_a_checksum_is_that_of_the_code_that_a_run_reaches(main, old, new, changed):
    assert STUDY.count(old) == 1
    before, after = write(), write(old, new)
    for names in ALL:
        same = record.checksum(before, *names) == record.checksum(after, *names)
        assert same != (names in changed), names


def test_keys_tell_all_runs_apart(main):
    keys = set()
    for old, new in ("", ""), ("CONFIG(4)", "CONFIG(5)"), ("Recipe()", "Recipe(1)"):
        lesson = write(old, new)
        keys |= {record.key(lesson, *job) for job in JOBS}
    assert len(keys) == 8 + 4 + 8


def test_every_recorded_run_was_made_by_these_definitions(lesson):
    found, size = record.read(lesson)
    assert size == record.RECORD.stat().st_size < 10e6
    known = [run for job, run in found.items() if record.known(lesson, job)]
    stale = [record.JOB(run) for run in known if not record.fits(lesson, run)]
    assert not stale, f"{len(stale)} runs, {stale[:3]}: ask python data/runs.py"


def test_a_study_is_made_as_far_as_it_can_be(main):
    write("double(config, x):", "double(config, y):")
    status, said = main()
    assert status == 1 and jobs() == JOBS[2:4] and said.count("NameError") == 2, said
    assert "2 runs were not done" in said and "second waits for first" in said
    write("2 * x", "x / 0")
    assert "failed: ValueError" in main()[1] and jobs() == JOBS[2:4]  # infinite
    write()
    assert main("--only", "fir", "fi")[0] == 0 and jobs() == JOBS[:4]
    status, said = main()
    assert status == 0 and "waits" not in said and jobs() == JOBS, said
    assert main() == (0, "")
    line, made = lines()[0], lines()[0]["made"]
    assert " ".join(line) == "experiment arm seed key held_out first spread made"
    assert " ".join(made) == "python torch device processor threads seconds source"
    assert line["spread"] == float(f"{line['spread']:.6g}")


def test_stale_runs_stop_the_script_until_they_are_certified(main):
    main()
    save([*lines(), lines()[0] | {"arm": "gone"}])
    made = record.RECORD.read_bytes()
    status, said = main("--check", 3)
    assert status == 0 and said.count("agrees in every digit") == 3, said
    write("CONFIG(4)", "CONFIG(5)")
    assert "4 runs, ('second', 'double', 0) first, were made by other" in main()[1]
    write("x.std()", "(1 * x).std()")
    assert "4 runs" in main()[1] and record.RECORD.read_bytes() == made
    record.RECORD.write_bytes(made + b'{"experiment": "torn of')
    status, said = main("--check", 2)
    assert said.count("agrees in every digit") == said.count("first, ") == 2, said
    assert status == 0 and "certified: 4 runs" in said and main() == (0, "")
    found = lines()
    assert ["certified" in line["made"] for line in found] == [True] * 4 + [False] * 5
    found[0]["held_out"][-1] += 1e-4
    found[0]["made"]["certified"] = "of old"
    save(found)
    status, said = main("--check", 1)
    assert status == 1 and "1 of 1 runs do not agree" in said and lines() == found, said


@pytest.mark.parametrize(("change", "agrees", "words"), [
    ({}, True, "agrees in every digit"),
    ({"first": [3, 2 + 1e-7]}, True, "rounding: first updates agree to 1e-07, held out "),
    ({"held_out": [3, 1.002]}, False, "held out at most 0.002 nats apart at the end"),
    ({"held_out": [2.5, 1], "first": [3, 2.01]}, False, "in held_out by 0.5, first by 0.01"),
    ({"key": "l"}, False, "DIFFERS in key (of another form)"),
    ({"held_out": [3.0]}, False, "DIFFERS in held_out (of another form)"),
])  # fmt: skip
def test_a_difference_is_named_measured_and_told_from_rounding(change, agrees, words):
    here = {"device": "cpu", "processor": "P", "torch": "2"}
    old = {"key": "k", "held_out": [3.0, 1.0], "first": [3.0, 2.0], "made": here}
    there = {"made": here | {"device": "cuda", "gpu": "G"}}
    found, same = record.compare(old, old | change | there)
    where = "(recorded on P, cpu, torch 2, done on G, cuda, torch 2)"
    assert words in found and found.endswith(where) == bool(change) and same == agrees
    assert ("DIFFERS" in record.compare(old, old | change)[0]) == bool(change)


@pytest.mark.parametrize(("words", "old", "new"), [
    ("ASCII", b"\n", b"\0\n"),  # as in UTF-16
    ("ASCII", b"plain", b"pl\xe4in"),
    ("ASCII", b"\n", b"\n<html>"),
    ("made", b'"source"', b'"sources"'),
    ("Expecting", b'{"experiment', b"experiment"),
])  # fmt: skip
def test_a_damaged_record_is_refused_and_left_alone(main, words, old, new):
    main("--only", "first")
    content = new.join(record.RECORD.read_bytes().rsplit(old, 1))
    record.RECORD.write_bytes(content)
    for args in ((), ("--check", 1)):
        status, said = main(*args)
        assert status == 1 and said.count("\n") == 1 and words in said, said
        assert record.RECORD.read_bytes() == content


def test_a_run_is_appended_whole_or_not_at_all(main):
    resource = pytest.importorskip("resource")
    limit, limits = resource.RLIMIT_FSIZE, resource.getrlimit(resource.RLIMIT_FSIZE)
    save([{"last": [1.0] * 100}] * 2)
    before = record.RECORD.read_bytes()
    resource.setrlimit(limit, (len(before) + 100, limits[1]))  # as if a disk were full
    with pytest.raises(OSError):
        record.append(lines()[0])
    resource.setrlimit(limit, limits)
    assert record.RECORD.read_bytes() == before


def test_what_can_not_be_used_is_said_before_any_run(main, capsys):
    for args in ("--only fi long", "--device gpu", "--workers 9999", "--check 0"):
        with pytest.raises(SystemExit, match="2"):
            main(*args.split())
        assert args[:7] in capsys.readouterr().err.splitlines()[-1]
    with runs.FileLock("data/runs.lock"):
        assert "wait for its end" in main()[1]
    assert "start it with: dask worker ADDRESS --nthreads 1" in main(threads=2)[1]
    assert "no mps" in main("--device", "mps")[1]
    assert "nothing to check" in main("--check", 1)[1]
    assert "start again" in main("--scheduler", "tcp://127.0.0.1:9")[1]
    Path("data/shakespeare.npz").write_bytes(b"other plays")
    assert "shakespeare.npz is missing or of other content" in main()[1]
    record.NOTEBOOK.write_text("{}")
    assert "ipynb can't be used: KeyError" in main()[1] and lines() == []
    record.RECORD.unlink()
    write()
    record.RECORD.symlink_to("nowhere/runs.jsonl")
    assert "No such file" in main()[1]


@pytest.mark.slow
def test_whatever_is_killed_no_run_is_lost(main):
    """The script, then a worker of a cluster."""
    script = start("--workers", "2")
    until(lines)
    workers = psutil.Process(script.pid).children(recursive=True)
    script.kill()
    assert not psutil.wait_procs(workers, timeout=60)[1]
    found = record.RECORD.read_bytes()
    record.RECORD.write_bytes(found + b'{"experiment": "torn of')
    with LocalCluster(n_workers=2, threads_per_worker=1) as here:
        script = start("--scheduler", here.scheduler_address)
        until(lambda: record.RECORD.read_bytes().count(b"\n") > found.count(b"\n"))
        psutil.Process(here.workers[0].process.pid).kill()
        said = script.communicate(timeout=120)[0]
    assert script.returncode == 0 and "torn off" in said and "failed" not in said, said
    assert record.RECORD.read_bytes().startswith(found) and jobs() == JOBS
