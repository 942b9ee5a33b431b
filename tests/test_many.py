"""Runs that are kept in a folder, and shared by several processes."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

RANKS = """
import json, os, sys
sys.path.insert(0, {tests!r})
import lesson as loader
lesson = loader.load()
lesson.join()
assert lesson.torch.get_num_threads() == 1
config = lesson.GPTConfig(97, block_size=12, n_layer=2, n_head=4, n_embd=32)
data = lesson.torch.arange(130).reshape(10, 13) % 97
arms = {{"vanilla": lesson.GPT, "published": lesson.GPTWithCLS}}
runs = lesson.sweep(arms, config, lesson.Recipe(epochs=2, batch_size=4), data, data, range(3))
found = {{arm: [vars(run) for run in mine] for arm, mine in runs.items()}}
open(os.path.join({out!r}, str(lesson.RANK)), "w").write(json.dumps(found))
"""


@pytest.fixture
def job(lesson, small, random_ids, monkeypatch, tmp_path):
    """A function that runs a small sweep with RESUME; and the arms it has had to train."""
    monkeypatch.setattr(lesson, "FOLDER", tmp_path)
    trained, train, data = [], lesson.train, random_ids(10, 13)

    def recording(*args):
        trained.append(args[5])
        return train(*args)

    monkeypatch.setattr(lesson, "train", recording)

    def sweep(arms=None, config=small, data=data, seeds=range(2), measure=None, **recipe):
        arms = arms or {"vanilla": lesson.GPT, "published": lesson.GPTWithCLS}
        recipe = lesson.Recipe(**{"epochs": 2, "batch_size": 4, **recipe})
        trained.clear()
        return lesson.sweep(arms, config, recipe, data, data, seeds, measure), list(trained)

    return sweep


def test_finished_runs_are_not_run_again(lesson, job, tmp_path):
    first, trained = job(measure=lesson.GPT.state_dict)
    assert trained == [f"{arm}, seed {s}" for s in (0, 1) for arm in ("vanilla", "published")]
    again, trained = job(measure=lesson.GPT.state_dict)
    assert trained == []
    for arm, runs in first.items():
        for one, other in zip(runs, again[arm], strict=True):
            assert (one.step, one.held_out, one.gradient) == (
                other.step,
                other.held_out,
                other.gradient,
            )
            assert all(torch.equal(p, other.final[name]) for name, p in one.final.items())
    assert len(list(tmp_path.iterdir())) == 4  # and nothing half-written


def test_without_a_folder_nothing_is_kept(lesson, job, monkeypatch, tmp_path):
    monkeypatch.setattr(lesson, "FOLDER", None)
    assert len(job()[1]) == len(job()[1]) == 4
    assert not list(tmp_path.iterdir())


def test_all_that_determines_a_result_is_in_its_key(lesson, job, small, random_ids, monkeypatch):
    job(seeds=[0])
    changes = [
        {"seeds": [1]},
        {"config": lesson.replace(small, dropout=0.2)},
        {"data": random_ids(10, 13)},
        {"learning_rate": 2e-3},
        {"optimizer": torch.optim.AdamW},
        {"measure": lesson.GPT.state_dict},
        {"arms": {"vanilla": partial(lesson.GPTWithCLS, readout="drop"), "published": lesson.GPT}},
    ]
    for change in changes:
        new = job(**{"seeds": [0], **change})[1]
        assert len(new) == (1 if "arms" in change else 2), change
    assert job(seeds=[0])[1] == []
    common = [("PRECISION", "bfloat16"), ("source", lambda: "another definition")]
    for name, value in common:
        with monkeypatch.context() as changed:
            changed.setattr(lesson, name, value)
            assert len(job(seeds=[0])[1]) == 2, name
    for name, value in (("__version__", "9.9.9"), ("get_num_threads", lambda: 3)):
        with monkeypatch.context() as changed:
            changed.setattr(torch, name, value)
            assert len(job(seeds=[0])[1]) == 2, name


def test_the_source_is_that_of_functions_and_methods(lesson):
    text = "".join(lesson.source())
    for line in ("def train(", "def attention_weights(", "x = x + self.attn(self.ln_1(x))"):
        assert text.count(line) == 1


def test_an_interrupted_sweep_goes_on_where_it_stopped(lesson, job, monkeypatch):
    whole, _ = job()
    for path in lesson.FOLDER.iterdir():
        path.unlink()
    updates = []

    class Stopping(lesson.tqdm):
        def update(self, n=1):
            updates.append(n)
            if len(updates) == 8:  # in the second epoch of the second run
                raise KeyboardInterrupt
            return super().update(n)

    with monkeypatch.context() as stopping:
        stopping.setattr(lesson, "tqdm", Stopping)
        partly, _ = job()
    assert not partly["vanilla"][0].stopped and partly["published"][0].stopped
    assert len(list(lesson.FOLDER.iterdir())) == 1  # of the four, one was finished
    again, trained = job()
    assert len(trained) == 3 and again == whole


def broken(path):
    path.write_bytes(path.read_bytes()[:1000])


def foreign(path):
    other = next(p for p in path.parent.iterdir() if p != path)
    path.write_bytes(other.read_bytes())


def with_code(path):
    torch.save({"name": path.name, "step": Path("here")}, path)


@pytest.mark.parametrize(
    "spoil",
    [broken, foreign, with_code, lambda p: p.write_bytes(b""), lambda p: p.write_text("a run")],
)
def test_a_file_that_does_not_fit_is_reported_and_its_run_done_again(job, spoil, tmp_path, capsys):
    whole, _ = job()
    path = sorted(tmp_path.iterdir())[0]
    spoil(path)
    again, trained = job()
    assert len(trained) == 1 and again == whole
    assert f"{path} cannot be used, its run is done again" in capsys.readouterr().out
    assert job()[1] == []


def test_a_full_disk_costs_no_result(lesson, job, monkeypatch, tmp_path, capsys):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    runs, _ = job()
    assert all(run.held_out[-1] < run.held_out[0] for run in runs["vanilla"])
    assert "No space left" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(lesson, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("not a folder", "utf-8")
    monkeypatch.setattr(lesson, "FOLDER", tmp_path / "file" / "runs")
    with pytest.raises(ValueError, match=r"RESUME=.*file.runs: name a folder that can be written"):
        lesson.join()


def test_several_processes_need_a_folder_and_each_other(lesson, monkeypatch, tmp_path):
    monkeypatch.setattr(lesson, "WORLD", 2)
    with pytest.raises(ValueError, match="WORLD_SIZE=2: set RESUME"):
        lesson.join()
    monkeypatch.setattr(lesson, "FOLDER", tmp_path)
    with pytest.raises(ConnectionError, match=r"WORLD_SIZE=2: .*torchrun,\s+or unset WORLD_SIZE"):
        lesson.join()


def test_one_two_and_four_processes_give_the_same_bits(tmp_path):
    results = []
    for n in (1, 2, 4):
        out, script = tmp_path / f"out{n}", tmp_path / "script.py"
        out.mkdir()
        script.write_text(RANKS.format(tests=str(Path(__file__).parent), out=str(out)), "utf-8")
        command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={n}"]
        environment = {**os.environ, "RESUME": str(tmp_path / f"runs{n}")}
        environment.pop("OMP_NUM_THREADS", None)
        subprocess.run([*command, script], check=True, env=environment, timeout=300)
        assert len(list((tmp_path / f"runs{n}").iterdir())) == 6
        results += [json.loads((out / str(rank)).read_text("utf-8")) for rank in range(n)]
    assert all(result == results[0] for result in results)


class Intruder:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_in_a_file_is_executed(lesson, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lesson, "DEVICE", torch.device("cpu"))
    path, made = tmp_path / "run.pt", tmp_path / "made"
    torch.save({"name": path.name, "step": Intruder(made)}, path)
    history = lesson.History([1.0], [1.0], [1.0, 0.5], [])
    assert lesson.kept(path, lambda: history) is history
    assert not made.exists() and "its run is done again" in capsys.readouterr().out


def test_a_key_depends_on_every_number_of_the_data(lesson):
    """Also on those that a printed tensor leaves out."""
    data = torch.zeros(10_000)
    before = lesson.describe([data])
    data[5_000] = 1
    assert lesson.describe([data]) != before
