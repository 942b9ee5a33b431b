"""Fixtures: the notebook's definitions as data/runs.py loads them, and the record."""

import os
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "data"))
os.environ |= {"MPLBACKEND": "agg", "DEVICE": "cpu"}

import runs  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: more than ten seconds")


def planted(source):
    """Return the source with the fault that the variable FAULT asks for: old=>new."""
    if "FAULT" in os.environ:
        old, new = os.environ["FAULT"].split("=>")
        assert source.count(old) == 1, (
            f"{old!r}: {source.count(old)} times in the source"
        )
        source = source.replace(old, new)
    return source


@pytest.fixture(scope="session")
def source():
    return planted(runs.definitions())


@pytest.fixture(scope="session")
def lesson(source):
    """The notebook's definitions, as a module."""
    os.chdir(ROOT)  # where the notebook's paths start
    return runs.load(source)


@pytest.fixture(scope="session")
def record(lesson):
    return lesson.read_record(runs.RECORD)


@pytest.fixture
def small(lesson):
    """A config that trains in milliseconds."""
    return lesson.GPTConfig(97, block_size=12, n_layer=2, n_head=4, n_embd=32)


@pytest.fixture
def tiny(lesson):
    """The released config, so small that a run on the ten sentences takes a second."""
    sizes = {"vocab_size": 61, "n_embd": 16, "n_layer": 2, "n_head": 2}
    return lesson.replace(lesson.RELEASED, **sizes)


@pytest.fixture
def random_ids():
    """Return a function that makes random ids of a shape."""
    generator = torch.Generator().manual_seed(0)
    return lambda *shape, below=97: torch.randint(below, shape, generator=generator)
