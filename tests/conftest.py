import os

import lesson as lesson_loader
import pytest
import torch
from build import DATA


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: runs the whole notebook, a minute or more")


@pytest.fixture(scope="session")
def lesson():
    """The notebook's own definitions, as a module; in float32, whatever the hardware likes."""
    os.environ |= {"PRECISION": "float32", "MPLBACKEND": "agg"}
    return lesson_loader.load()


@pytest.fixture(scope="session")
def corpus(lesson):
    return lesson.Corpus(DATA, lesson.DATA_SHA256)


@pytest.fixture
def small(lesson):
    """A config that trains in milliseconds."""
    return lesson.GPTConfig(97, block_size=12, n_layer=2, n_head=4, n_embd=32, dropout=0.1)


@pytest.fixture
def random_ids():
    """Return a function that makes random ids of a shape."""
    generator = torch.Generator().manual_seed(0)
    return lambda *shape, below=97: torch.randint(below, shape, generator=generator)
