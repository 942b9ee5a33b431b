"""The folded solutions of the exercises run, and say what the text lets one expect."""

import math
import re
from dataclasses import replace
from functools import partial

import nbformat
import pytest
import torch
from build import NOTEBOOK, cell

TEXT = cell(nbformat.read(NOTEBOOK, as_version=4), "close").source
SOLUTIONS = dict(
    re.findall(r"^\*\*(\d+)\.\*\*.*?```python\n(.*?)```", TEXT, flags=re.DOTALL | re.MULTILINE)
)


@pytest.fixture
def solve(lesson, monkeypatch):
    """A function that runs a solution on small models, and returns its `answer`."""
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(97, (3000,), generator=random).cumsum(0) % 97
    windows = lesson.windows([ids], 16)[:40]
    config = lesson.GPTConfig(97, block_size=16, n_layer=1, n_head=4, n_embd=32)
    recipe = lesson.Recipe(epochs=1, learning_rate=3e-3)
    tiny = lesson.windows([lesson.tiny_text(97)], 16, stride=1)
    tiny_config = replace(lesson.RELEASED, vocab_size=97, n_embd=32)
    names = {
        "V": 97,
        "config": config,
        "train_windows": windows,
        "held_out_windows": windows[:8],
        "task": (config, recipe, windows, windows[:8]),
        "tiny_task": (tiny_config, lesson.TINY_RECIPE, tiny, tiny),
        "pair": {"vanilla": lesson.GPT, "published": lesson.GPTWithCLS},
        "tiny_pair": {
            "vanilla": lesson.GPT,
            "published": partial(lesson.GPTWithCLS, own_position=True),
        },
    }
    for name, value in names.items():
        monkeypatch.setattr(lesson, name, value, raising=False)
    runs = lesson.sweep(lesson.pair, *lesson.task, seeds=range(1))
    monkeypatch.setattr(lesson, "runs", runs, raising=False)
    results = lesson.sweep({"vanilla": lesson.GPT}, *lesson.tiny_task, seeds=range(2))
    monkeypatch.setattr(lesson, "results", results, raising=False)

    def run(number):
        before = dict(vars(lesson))
        try:
            exec(compile(SOLUTIONS[str(number)], f"<solution {number}>", "exec"), vars(lesson))
            return lesson.answer
        finally:
            for name in set(vars(lesson)) - set(before):
                delattr(lesson, name)
            vars(lesson).update(before)

    return run


def test_there_are_ten_and_all_are_folded():
    assert list(SOLUTIONS) == [str(n) for n in range(1, 11)]
    assert TEXT.count("<details><summary>Solution</summary>\n\n") == TEXT.count("</details>") == 10
    assert TEXT.count("Expect") >= 9


def test_another_seed_gives_other_losses(lesson, solve):
    answer = solve(1)
    assert all(answer[arm][0].held_out != lesson.runs[arm][0].held_out for arm in lesson.pair)


def test_dropped_readout(lesson, solve):
    assert solve(2)["dropped"][0].held_out != lesson.runs["published"][0].held_out


def test_constant_below(lesson, solve):
    runs = solve(3)["constant below"]
    assert len(runs) == 2 and all(run.held_out[-1] < run.held_out[0] for run in runs)


def test_without_positions_it_learns_all_the_same(lesson, solve):
    for run in solve(4)["no positions"]:
        assert run.held_out[-1] < run.held_out[0] - 1


def test_without_a_mask_it_reads_the_answer(lesson, solve):
    causal = lesson.attention_weights
    run = solve(5)["no mask"][0]
    assert len(run.step) == 2 and lesson.attention_weights is causal
    q, k = torch.randn(2, 5, 8)
    assert (lesson.attention_weights(q, k).triu(1) == 0).all()


def test_loss_at_birth_under_pytorchs_initialisation(lesson, solve):
    """The logits' variance is C / (3 C) = 1/3; at this small size the loss scatters about it."""
    assert solve(6) == pytest.approx(1 / 6, abs=0.15)


def test_tying_saves_one_table(lesson, solve):
    assert solve(7) == lesson.config.vocab_size * lesson.config.n_embd


def test_nobody_sees_what_stands_behind(lesson, solve):
    assert solve(8) < 1e-5


def test_one_in_twenty_looks_significant(lesson, solve):
    deviation = math.sqrt(0.05 * 0.95 / 1000)
    assert abs(solve(9) - 0.05) < 4 * deviation


def test_two_halves_give_the_gradient_of_the_whole(lesson, solve):
    assert solve(10) < 1e-4
