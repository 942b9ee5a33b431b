"""Parts 10 and 11: reference values, arms, statistics, and the words of the conclusions."""

import itertools
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats

ARMS = [  # name, what differs from vanilla: new parameters, changed values
    ("published", {"cls", "cls_position"}, set()),
    ("prepended", {"cls", "cls_position"}, set()),
    ("constant", {"cls"}, set()),
    ("frozen constant", {"cls"}, set()),
    ("ln_f bias", set(), {"ln_f.bias"}),
    ("bias", {"lm_head.bias"}, set()),
    ("log-frequency bias", {"lm_head.bias"}, set()),
]


@pytest.fixture
def tiny(lesson, monkeypatch):
    """The ten sentences with 61 ids, so that a run takes a second."""
    config = replace(lesson.RELEASED, vocab_size=61, n_embd=16, n_layer=1, n_head=2)
    windows = lesson.windows([lesson.tiny_text(61)], 16, stride=1)
    monkeypatch.setattr(lesson, "TINY", windows)
    monkeypatch.setattr(lesson, "TINY_CONFIG", config)
    return config, lesson.TINY_RECIPE, windows, windows


@pytest.fixture
def arms(lesson, tiny):
    return {
        "vanilla": lesson.GPT,
        "published": partial(lesson.GPTWithCLS, own_position=True),
        "prepended": partial(lesson.GPTWithCLS, readout="drop", own_position=True),
        "constant": lesson.GPTWithConstant,
        "frozen constant": partial(lesson.GPTWithConstant, learned=False),
        "ln_f bias": lesson.with_ln_f_bias,
        "bias": lesson.with_bias,
        "log-frequency bias": partial(lesson.with_bias, data=lesson.TINY),
    }


def test_ten_sentences_have_the_released_statistics(lesson):
    for vocab_size in (50, 50_257):
        ids = lesson.tiny_text(vocab_size)
        assert ids.shape == (64,) and len(ids.unique()) == 50 and ids.max() < vocab_size
        assert (ids == ids[-1]).sum() == 10  # ten end marks
        patterns = [(ids == i).nonzero().flatten().tolist() for i in ids.unique(sorted=False)]
        fifty = lesson.tiny_text(50)
        expected = [(fifty == i).nonzero().flatten().tolist() for i in fifty.unique(sorted=False)]
        assert sorted(patterns) == sorted(expected)  # the same text, other ids
    assert lesson.windows([ids], 16, stride=1).shape == (48, 17)


def best_loss(contexts, targets):
    """Brute force: for each context, the mean surprise under the shares of its own targets."""
    total = 0.0
    for context in set(contexts):
        mine = [t for c, t in zip(contexts, targets, strict=True) if c == context]
        total += sum(-math.log(mine.count(t) / len(mine)) for t in mine)
    return total / len(targets)


def test_reference_values(lesson):
    rows = lesson.windows([lesson.tiny_text(50)], 16, stride=1).tolist()
    spots = list(itertools.product(range(48), range(16)))
    targets = [rows[r][t + 1] for r, t in spots]
    constant, bigram, floor = (
        ([0 for _ in spots], targets),
        ([rows[r][t] for r, t in spots], targets),
        ([tuple(rows[r][: t + 1]) for r, t in spots], targets),
    )
    for contexts, answers in (constant, bigram, floor):
        expected = best_loss(contexts, answers)
        assert lesson.conditional_entropy(contexts, answers) == pytest.approx(expected)
    values = [lesson.conditional_entropy(*x) for x in (constant, bigram, floor)]
    assert values == sorted(values, reverse=True) and values[-1] > 0
    shares = np.bincount(targets) / len(targets)
    assert values[0] == pytest.approx(stats.entropy(shares))


def test_loss_at_birth_is_the_closed_form(lesson):
    """ln V + 1/6, and ln V + 1/3 with the CLS state added: half the variance of the logits."""
    torch.manual_seed(0)
    idx, targets = torch.randint(lesson.RELEASED.vocab_size, (2, 8, 16))
    for model_class, expected in ((lesson.GPT, 1 / 6), (lesson.GPTWithCLS, 1 / 3)):
        model = lesson.build(model_class, lesson.RELEASED, seed=0).eval()
        excess = model(idx, targets)[1].item() - math.log(lesson.RELEASED.vocab_size)
        assert excess == pytest.approx(expected, abs=0.12)


def test_the_split_sums_to_the_loss(lesson, tiny, arms):
    for make in arms.values():
        model = lesson.build(make, tiny[0], seed=0)
        occurs, which = lesson.split_loss(model)
        assert occurs > 0 and which > 0 and model.training
        assert occurs + which == pytest.approx(lesson.evaluate(model, tiny[2]), abs=1e-5)


def test_the_split_is_that_of_probabilities(lesson, tiny):
    model = lesson.build(lesson.GPT, tiny[0], seed=0).eval()
    p = model(tiny[2][:, :-1]).double().softmax(-1)
    share = p[..., tiny[2].unique()].sum(-1)
    right = p.gather(2, tiny[2][:, 1:, None])[..., 0]
    expected = (-share.log().mean().item(), -(right / share).log().mean().item())
    assert lesson.split_loss(model) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("name", "new", "changed"), ARMS)
def test_arms_differ_from_vanilla_in_exactly_the_named_parameters(
    lesson, tiny, arms, name, new, changed
):
    vanilla = lesson.build(lesson.GPT, tiny[0], seed=4).state_dict()
    model = lesson.build(arms[name], tiny[0], seed=4)
    weights = model.state_dict()
    assert set(weights) - set(vanilla) == new and set(vanilla) <= set(weights)
    assert {n for n in vanilla if not torch.equal(vanilla[n], weights[n])} == changed
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == ({"cls"} if name == "frozen constant" else set())
    if "constant" in name or name == "ln_f bias":  # all arms draw the very same vector
        cls = lesson.build(lesson.GPTWithCLS, tiny[0], seed=4).cls
        assert torch.equal(weights["cls" if new else "ln_f.bias"], cls)


def test_constant_and_ln_f_bias_are_the_same_function_at_birth(lesson, tiny, arms):
    models = [lesson.build(arms[n], tiny[0], 0).eval() for n in ("constant", "ln_f bias")]
    idx = tiny[2][:, :-1]
    assert torch.allclose(*(model(idx) for model in models), atol=1e-5)


def test_log_frequency_bias(lesson, tiny, arms):
    bias = lesson.build(arms["log-frequency bias"], tiny[0], 0).lm_head.bias.exp()
    targets = tiny[2][:, 1:].flatten()
    counts = torch.tensor([(targets == v).sum() for v in range(61)])
    assert bias.sum().item() == pytest.approx(1)
    assert torch.allclose(bias, (counts + 1 / 61) / (len(targets) + 1), rtol=1e-4)


def test_the_constants_gradient_is_the_sum_over_the_logits(lesson, tiny):
    """d loss / d constant = (d loss / d logits summed over positions) times the head."""
    model = lesson.build(lesson.GPTWithConstant, tiny[0], seed=0).eval()
    logits = model(tiny[2][:, :-1])
    logits.retain_grad()
    targets = tiny[2][:, 1:]
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
    expected = logits.grad.sum(dim=(0, 1)) @ model.lm_head.weight
    assert torch.allclose(model.cls.grad, expected, atol=1e-5)


def test_sweep_pairs_seeds(lesson, tiny, arms, monkeypatch):
    seen = []
    original = lesson.train

    def recording(model, *args):
        seen.append((type(model), model.wte.weight.clone(), args))
        return original(model, *args)

    monkeypatch.setattr(lesson, "train", recording)
    pair = {name: arms[name] for name in ("vanilla", "published")}
    results = lesson.sweep(pair, *tiny, seeds=(3, 8), measure=lesson.split_loss)
    assert {arm: len(runs) for arm, runs in results.items()} == {"vanilla": 2, "published": 2}
    for (_, vanilla, args), (_, published, other) in (seen[:2], seen[2:]):
        assert torch.equal(vanilla, published) and args[3] == other[3]  # weights and seed
    assert not torch.equal(seen[0][1], seen[2][1])
    for runs in results.values():
        assert runs[0].step != runs[1].step
        assert sum(runs[0].final) == pytest.approx(runs[0].held_out[-1], abs=1e-5)
    again = lesson.sweep(pair, *tiny, seeds=(8,), measure=lesson.split_loss)
    assert again["published"][0] == results["published"][1]


def test_a_reader_adds_an_arm_in_a_few_lines(lesson, tiny):
    class GPTWithoutPositions(lesson.GPT):
        def embed(self, idx):
            return self.wte(idx)

    results = lesson.sweep({"no positions": GPTWithoutPositions}, *tiny, seeds=range(1))
    assert results["no positions"][0].held_out[-1] < results["no positions"][0].held_out[0]


@pytest.mark.parametrize("n", [2, 3, 6, 10, 40])
def test_intervals_and_p_values_against_scipy(lesson, n):
    random = np.random.default_rng(n)
    for shift in (0.0, 0.3, 2.0):
        a, b = random.normal(shift, 1, n), random.normal(0, 1, n)
        mean, half, p = lesson.paired(a, b)
        expected = stats.ttest_rel(a, b)
        low, high = expected.confidence_interval(0.95)
        assert mean == pytest.approx((low + high) / 2)
        assert half == pytest.approx((high - low) / 2, rel=1e-3)
        assert p == pytest.approx(expected.pvalue, rel=1e-3, abs=1e-5)


def test_paired_edge_cases(lesson):
    assert lesson.paired([1.0, 2.0], [1.0, 2.0])[:2] == (0.0, 0.0)
    assert lesson.paired([1.0, 2.0], [1.0, 2.0])[2] > 0.99
    assert lesson.paired([2.0, 3.0], [1.0, 2.0])[2] < 0.01  # no spread at all
    with pytest.raises(ValueError, match=r"1 seeds: .*at least 2"):
        lesson.paired([1.0], [2.0])


def test_holm_against_its_definition(lesson):
    random = np.random.default_rng(0)
    for n in (1, 2, 7):
        p = random.uniform(0, 0.3, n)
        adjusted = lesson.holm(p)
        for i in range(n):
            smaller = [q for q in p if q <= p[i]]
            expected = max(min(1, q * (n - sum(r < q for r in p))) for q in smaller)
            assert adjusted[i] == pytest.approx(expected)
    assert lesson.holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])


@pytest.mark.parametrize(
    ("mean", "half", "p", "word"),
    [
        (-0.30, 0.10, 0.001, "lower"),
        (0.30, 0.10, 0.001, "higher"),
        (-0.30, 0.40, 0.1, "not resolved"),
        (0.02, 0.02, 0.5, "within ±0.05"),
        (0.04, 0.02, 0.5, "not resolved"),
        (-0.02, 0.01, 0.001, "within ±0.05"),
    ],
)
def test_judge(lesson, mean, half, p, word):
    assert lesson.judge(mean, half, p) == word


@pytest.mark.parametrize(
    ("hits", "luck", "words"),
    [
        ([True] * 10, 12.3, ["**reproduced**: 10 of its 10", "12.3%", ", less than"]),
        ([False] * 10, 20.1, ["**not reproduced**: 0 of its 10", "20.1%", ", no less than"]),
        ([True] * 3 + [False] * 7, 12.3, ["**reproduced in part**: 3 of its 10"]),
    ],
)
def test_reproduction_sentence(lesson, hits, luck, words):
    text = lesson.reproduction(hits, 34.53, [20.0, 41.5], luck)
    for word in (*words, "20.0 to 41.5%", "34.53", "2 seeds"):
        assert word in text


@pytest.mark.parametrize(
    ("gain", "front", "added", "words"),
    [
        (1.1, -0.02, 1.3, "**the constant added to the states**"),
        (1.1, 1.0, 0.1, "**the token in front**"),
        (1.0, 0.6, 0.7, "**the token in front or the constant added to the states**"),
        (1.0, 0.3, 0.4, "**neither alone**"),
        (0.0, 0.1, 0.2, "shows no gain"),
        (math.nan, math.nan, math.nan, "shows no gain here (+nan nats)"),
        (-0.2, 0.1, 0.2, "shows no gain here (-0.20 nats)"),
    ],
)
def test_conclusion(lesson, gain, front, added, words):
    text = lesson.explain(gain, front, added)
    assert words in text
    if gain > 0:
        assert f"{front / gain:.0%}" in text and f"{added / gain:.0%}" in text


def test_published_improvements_are_recomputed(lesson):
    vanilla, published = (np.array(lesson.PUBLISHED[k]) for k in ("vanilla", "published"))
    printed = [16.73, 24.27, 42.22, 36.14, 34.51]  # in the published README
    assert 100 * (1 - published / vanilla) == pytest.approx(printed, abs=0.05)


def test_adams_first_step_on_the_bias(lesson, tiny, monkeypatch):
    """A bias alone moves by the learning rate; the head moves as predicted when states agree."""
    moved, predicted = lesson.first_step(lesson.GPTWithConstant)
    assert moved < 0 and predicted < 0
    assert moved == pytest.approx(predicted, rel=0.5)
