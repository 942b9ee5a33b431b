"""Parts 12 to 14: bytes, power, attention, probes, and the verdict on each claim."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

LOWER, HIGHER = (-0.3, 0.1, 0.001), (0.3, 0.1, 0.001)
OPEN, SMALL = (-0.1, 0.3, 0.4), (-0.02, 0.02, 0.04)


@pytest.fixture
def shown(lesson, monkeypatch):
    """The Markdown of what the notebook displays."""
    texts = []
    monkeypatch.setattr(lesson, "display", lambda markdown: texts.append(markdown.data))
    return texts


def history(lesson, held_out, **others):
    fields = {"step": [], "epoch": [], "gradient": [], **others}
    return lesson.History(held_out=held_out, **fields)


def test_compare_against_scipy(lesson, shown):
    """Every epoch's interval and p, over the seeds that all arms have; Holm on the last."""
    random = np.random.default_rng(0)
    losses = {arm: random.normal(5, 0.1, (n, 4)) for arm, n in (("vanilla", 6), ("a", 4), ("b", 6))}
    losses["b"] -= 1
    runs = {arm: [history(lesson, list(row)) for row in rows] for arm, rows in losses.items()}
    tests = lesson.compare(runs)
    for arm in ("a", "b"):
        for epoch, (mean, half, p) in enumerate(tests[arm]):
            expected = stats.ttest_rel(losses[arm][:4, epoch], losses["vanilla"][:4, epoch])
            low, high = expected.confidence_interval(0.95)
            assert mean == pytest.approx((low + high) / 2)
            assert half == pytest.approx((high - low) / 2, rel=1e-3)
            assert p == pytest.approx(expected.pvalue, rel=1e-2, abs=1e-4)
    rows = [[part.strip() for part in row.split("|")[1:-1]] for row in shown[0].split("\n")]
    assert [row[0] for row in rows] == ["Arm", ":--", "a", "b"]
    assert {len(row) for row in rows} == {2 + 3 + 2}
    assert rows[3][1] == f"{losses['b'][:4, -1].mean():.3f}" and rows[3][-1] == "lower"
    mean, half, _ = tests["a"][-1]
    assert rows[2][4] == f"{mean:+.3f} ± {half:.3f}"
    p = lesson.holm([tests[arm][-1][2] for arm in ("a", "b")])
    assert [row[5] for row in rows[2:]] == [f"{max(q, 0.001):.3f}" for q in p]


@pytest.mark.parametrize("spread", [0.001, 0.02, 0.1, 0.31])
def test_seeds_needed_against_scipy(lesson, spread):
    n = lesson.seeds_needed(spread)

    def half(n):
        return stats.t.ppf(0.975, n - 1) * spread / math.sqrt(n)

    assert n >= 2 and half(n) <= 0.05 * (1 + 1e-3)
    assert n == 2 or half(n - 1) > 0.05 * (1 - 1e-3)
    assert lesson.seeds_needed(100.0) == math.inf


def test_byte_windows(lesson, corpus, monkeypatch):
    monkeypatch.setattr(lesson, "corpus", corpus, raising=False)
    monkeypatch.setattr(lesson, "DEVICE", torch.device("cpu"))
    names = ["Macbeth", "The Tempest"]
    texts = [b"".join(corpus.vocab[i] for i in corpus.texts[name].tolist()) for name in names]
    many = sum((len(text) - 1) // 64 for text in texts)
    rows = lesson.byte_windows(names, many)
    assert rows.shape == (many, 65)
    first = (len(texts[0]) - 1) // 64
    for i in (0, 5, first - 1):
        assert bytes(rows[i].tolist()) == texts[0][64 * i : 64 * i + 65]
    assert bytes(rows[first].tolist()) == texts[1][:65]
    few = lesson.byte_windows(names, 7)
    assert torch.equal(few[0], rows[0]) and torch.equal(few[-1], rows[-1]) and len(few) == 7


def test_updates_to(lesson):
    """On losses 10, 9, 8, … the mean of three is the middle one."""
    run = history(lesson, [], step=[10.0 - i for i in range(10)])
    assert lesson.updates_to(run, 9.0, span=3) == 3
    assert lesson.updates_to(run, 5.5, span=3) == 7  # 6, 5, 4 are updates 5 to 7
    assert lesson.updates_to(run, 0.5, span=3) == 10  # never: all it has made
    stopped = history(lesson, [], step=[10.0, math.nan, math.nan, math.nan], stopped=True)
    assert math.isnan(lesson.updates_to(stopped, 0.5, span=3))


@pytest.mark.parametrize(
    ("tests", "wanted", "margin", "verdict"),
    [
        ([LOWER], "lower", 0.05, "supported"),
        ([LOWER, LOWER], "lower", 0.05, "supported"),
        ([HIGHER], "lower", 0.05, "not supported"),
        ([LOWER, HIGHER], "lower", 0.05, "not supported"),
        ([SMALL], "lower", 0.05, "not supported"),
        ([LOWER, SMALL], "lower", 0.05, "not supported"),
        ([OPEN, SMALL], "lower", 0.05, "not supported"),
        ([OPEN], "lower", 0.05, "not resolved"),
        ([LOWER, OPEN], "lower", 0.05, "not resolved"),
        ([SMALL], "lower", 0, "supported"),
        ([HIGHER], "higher", 0, "supported"),
        ([LOWER], "higher", 0, "not supported"),
        ([(math.nan, math.nan, math.nan)], "lower", 0, "not resolved"),
    ],
)
def test_verdict_on_a_claim(lesson, monkeypatch, tests, wanted, margin, verdict):
    monkeypatch.setattr(lesson, "claims", {}, raising=False)
    lesson.claim("It helps", "Loss:", tests, wanted, margin)
    sentence, measured, found, change = lesson.claims["It helps"]
    remedy = "more seeds" if verdict == "not resolved" else "another text or recipe"
    assert (sentence, found, change) == ("It helps", verdict, remedy)
    assert measured.startswith("Loss: ") and measured.count("±") == len(tests)
    assert f"{tests[0][0]:+.3g}" in measured
    lesson.claim("It helps", "Loss:", tests, change="none", verdict="impossible")
    assert lesson.claims["It helps"][2:] == ["impossible", "none"]


def test_versus_is_paired_by_seed(lesson):
    runs = {
        arm: [history(lesson, [loss]) for loss in losses]
        for arm, losses in {"published": (1.0, 2.0, 4.0), "other": (2.0, 3.0, 4.5)}.items()
    }
    mean, _, p = lesson.versus(lambda run: run.held_out[0], runs, "other")
    expected = stats.ttest_rel((1.0, 2.0, 4.0), (2.0, 3.0, 4.5))
    assert mean == pytest.approx(-2.5 / 3) and p == pytest.approx(expected.pvalue, abs=1e-3)


def test_difference_is_published_minus_vanilla(lesson, monkeypatch):
    monkeypatch.setattr(lesson, "pair", ["vanilla", "published"], raising=False)
    runs = {
        "vanilla": [history(lesson, [9.0, 5.0]), history(lesson, [8.0, 4.0])],
        "published": [history(lesson, [9.5, 4.0]), history(lesson, [8.0, 4.5])],
    }
    assert lesson.difference(runs).tolist() == [[0.5, 0.0], [-1.0, 0.5]]  # (epochs, seeds)


@pytest.mark.parametrize("name", ["GPT", "GPTWithCLS"])
def test_attention_maps_are_the_modules_own(lesson, small, random_ids, name):
    model = lesson.build(getattr(lesson, name), small, seed=0)
    idx = random_ids(3, 12)
    inputs = []
    for block in model.h:
        block.attn.register_forward_hook(lambda _, args, out: inputs.append(args[0]))
    maps = lesson.attention_maps(model, idx)
    T = 12 + (name == "GPTWithCLS")
    assert maps.shape == (2, 3, 4, T, T) and model.training
    assert torch.allclose(maps.sum(-1), torch.ones(2, 3, 4, T), atol=1e-6)
    assert (maps.triu(1) == 0).all()
    for block, x, found in zip(model.h, inputs, maps, strict=True):
        q, k, _ = (p.view(3, T, 4, 8).transpose(1, 2) for p in block.attn.c_attn(x).split(32, 2))
        assert torch.allclose(found, lesson.attention_weights(q, k), atol=1e-6)
    assert not any(block.attn.attn_dropout._forward_hooks for block in model.h)


def test_uniform_attention_gives_the_harmonic_line(lesson, small, random_ids):
    model = lesson.build(lesson.GPT, small, seed=0)
    for block in model.h:
        torch.nn.init.zeros_(block.attn.c_attn.weight)
    maps = lesson.attention_maps(model, random_ids(2, 12))
    harmonic = [1 / t for t in range(1, 13)]
    assert lesson.weight_on(maps).ravel().tolist() == pytest.approx([sum(harmonic) / 12] * 8)
    assert lesson.weight_on(maps, 1).ravel().tolist() == pytest.approx([sum(harmonic[1:]) / 11] * 8)


def split(lesson, n, classes, random):
    """Unbalanced labels in random order, the first the commonest, and a place for each."""
    labels = torch.tensor(
        random.choice(classes, n, p=[0.4, *[0.6 / (classes - 1)] * (classes - 1)])
    )
    return labels, torch.tensor(random.uniform(size=n))


def test_probe_on_known_signals(lesson):
    random = np.random.default_rng(0)
    labels, place = split(lesson, 600, 4, random)
    signal = torch.nn.functional.one_hot(labels).float()
    noisy = torch.cat([signal, 0.1 * torch.randn(600, 20)], dim=1)
    assert lesson.probe(noisy, labels, place) == 1
    blind = signal.clone()
    blind[labels == 3] = signal[labels == 0][0]  # 3 looks like 0, which is commoner
    expected = (labels[place >= 0.8] != 3).double().mean().item()
    assert lesson.probe(blind, labels, place) == pytest.approx(expected)
    labels[(place >= 0.6) & (place < 0.8)] = 0  # neither learned from nor counted
    assert lesson.probe(noisy, labels, place) == 1


def test_probe_on_what_is_constant_is_the_majority_rate(lesson):
    labels, place = split(lesson, 600, 4, np.random.default_rng(1))
    commonest = labels[place < 0.6].mode().values
    majority = (labels[place >= 0.8] == commonest).double().mean().item()
    constant = torch.randn(1, 32).expand(600, 32) + 1e-5 * torch.randn(600, 32)  # rounding errors
    assert lesson.probe(constant, labels, place) == majority
    shuffled = [lesson.probe(torch.randn(600, 8), labels, place) - majority for _ in range(5)]
    assert np.mean(shuffled) < 0.06  # five standard errors of the mean


def test_probe_learns_nothing_from_what_it_is_scored_on(lesson):
    """Wide noise can be learned by heart, but not foreseen."""
    labels, place = split(lesson, 600, 4, np.random.default_rng(2))
    noise = torch.randn(600, 400, generator=torch.Generator().manual_seed(0))
    assert lesson.probe(noise, labels, place) < 0.55  # the commonest label alone: about 0.4


def test_recall_finds_planted_pairs(lesson):
    torch.manual_seed(0)
    rows = torch.randn(200, 32)
    assert lesson.recall(rows) < 0.06
    planted = rows.clone()
    planted[1::2] = planted[::2] + 0.01 * torch.randn(100, 32)
    assert lesson.recall(planted) == 1
    half = rows.clone()
    half[1:100:2] = half[0:100:2]
    assert lesson.recall(half) == pytest.approx(0.5, abs=0.05)
    constant = torch.randn(1, 32).expand(200, 32) + 1e-5 * torch.randn(200, 32)
    assert lesson.recall(constant) == pytest.approx(1 / 100)


def test_features(lesson, small, random_ids):
    model = lesson.build(lesson.GPTWithCLS, small, seed=0)
    idx = random_ids(5, 12)
    found = lesson.features(model, idx)
    assert {x.shape for x in found.values()} == {(5, 32)} and model.training
    front = found["CLS in front"]
    assert torch.allclose(front, front[:1].expand(5, 32), atol=1e-6)
    changed = idx.clone()
    changed[:, 3] = (changed[:, 3] + 1) % 97
    moved = {
        name: (x - found[name]).abs().max().item()
        for name, x in lesson.features(model, changed).items()
    }
    assert moved.pop("CLS in front") < 1e-6
    assert all(distance > 1e-5 for distance in moved.values()), moved
    model.eval().readout = "drop"
    states = model.hidden(idx)  # without the CLS state
    assert torch.allclose(found["last token"], states[:, -1], atol=1e-5)
    assert torch.allclose(found["mean"], states.mean(dim=1), atol=1e-5)


def test_windows_of_the_probe_share_no_token(lesson, corpus):
    """Each play's windows are cut end to end, in order, and placed from 0 to 1."""
    ids, labels, place = lesson.labelled_windows([corpus.texts[n] for n in corpus.held_out], 50)
    assert ids.shape == (300, 64) and Counter(labels.tolist()) == dict.fromkeys(range(6), 50)
    for i, name in enumerate(corpus.held_out):
        mine = ids[labels == i]
        assert torch.equal(mine.flatten(), corpus.texts[name][: 50 * 64])
        assert place[labels == i].tolist() == pytest.approx([n / 50 for n in range(50)])
    short, labels, _ = lesson.labelled_windows([torch.arange(1000), torch.arange(400)], 50)
    assert short.shape == (12, 64) and labels.tolist() == [0] * 6 + [1] * 6


def test_config_of_the_byte_setting_is_that_of_the_brief(lesson):
    assert replace(lesson.BYTES, init="gpt2") == lesson.GPTConfig(256, 64, 4, 4, 128, 0.0)
    assert lesson.BYTE_RECIPE.batch_size == 12
