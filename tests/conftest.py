"""Fixtures: the notebook's definitions as data/runs.py loads them, and the record.

NOTEBOOK=path tests the definitions of another notebook, one that is being written.
"""

import itertools
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "data"))
os.environ |= {"MPLBACKEND": "agg", "DEVICE": "cpu"}

import record as recorded  # noqa: E402
import runs  # noqa: E402

torch.set_num_threads(1)  # models are small here, more threads only cost
recorded.NOTEBOOK = Path(os.environ.get("NOTEBOOK", recorded.NOTEBOOK))


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: more than ten seconds")


@pytest.fixture(scope="session")
def source():
    return runs.definitions()


@pytest.fixture(scope="session")
def lesson(source):
    """The notebook's definitions, as a module."""
    os.chdir(ROOT)  # where the notebook's paths start
    return runs.load(source)


@pytest.fixture(scope="session")
def record(lesson):
    return lesson.read_record(recorded.RECORD.read_text("utf-8"))


@pytest.fixture
def small(lesson):
    """A config that trains in milliseconds, with weights large enough to matter."""
    sizes = {"block_size": 16, "n_layer": 2, "n_head": 4, "n_embd": 32}
    return lesson.GPTConfig(97, **sizes, init="pytorch", cls_position=True)


@pytest.fixture
def data(lesson, small):
    """The 48 windows (48, 17) of the ten sentences."""
    return lesson.ten_sentences(small, 0)[0]


@pytest.fixture
def make(lesson, small, data):
    """Return a function that builds an arm, of a config with changes."""

    def make(arm, seed=0, **changes):
        config = lesson.replace(small, **changes)
        return lesson.build(lesson.ARMS[arm], config, data, seed)

    return make


@pytest.fixture
def random_ids():
    """Return a function that makes random ids of a shape."""
    generator = torch.Generator().manual_seed(0)
    return lambda *shape, below=97: torch.randint(below, shape, generator=generator)


@pytest.fixture
def made_up(lesson):
    """Return a function that makes a record up: all seeds at all rates of some settings.

    A run's losses x are `draw(experiment, arm, seed)`. Its other numbers follow: held out
    2x, the first log gradient norm x, the rise if CLS is hidden the first minus the second.
    """

    def made_up(settings, arms=("vanilla", "CLS", "constant"), draw=lambda *run: 1.0):
        record = lesson.Record()
        for setting in settings:
            seeds = sorted({*setting.choose}.union(*setting.report.values()))
            for run in itertools.product(setting.rates.values(), arms, seeds):
                x = np.zeros(5) + draw(*run)
                gradient = np.stack([x, 0 * x], axis=1)
                kept = {"held_out": [11.0, *2 * x], "epoch": x, "gradient": gradient}
                hidden = {"column hidden": 2 * x[-1] + x[0] - x[1]}
                record[run] = kept | (hidden if run[1] == "CLS" else {})
        return record

    return made_up
