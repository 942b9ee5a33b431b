"""Batches, training, what is kept of a run, evaluation and generation."""

import json
import math
from collections import Counter

import numpy as np
import pytest
import torch
from peer import adam_by_hand
from scipy import stats
from torch import nn


def test_batches(lesson):
    """Every window once an epoch, in a new order; or windows drawn, all alike."""
    rows, order, recipe = torch.arange(10), torch.manual_seed(1), lesson.Recipe(1, 4)
    epochs = [lesson.batches(rows, recipe, order) for _ in "12"]
    assert [len(batch) for batch in epochs[0]] == [4, 4, 2]
    one, two = (torch.cat(epoch).tolist() for epoch in epochs)
    assert sorted(one) == sorted(two) == rows.tolist() and one != two != rows.tolist()
    recipes = [lesson.Recipe(updates=n) for n in (10, 400)]
    few, many = (lesson.batches(rows, r, torch.manual_seed(1)) for r in recipes)
    assert all(map(torch.equal, few, many)) and len(few) == 10 and len(many) == 400
    drawn = torch.cat(many).bincount()
    assert drawn.sum() == 400 * 32 and stats.chisquare(drawn).pvalue > 1e-3


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("arm", ["vanilla", "CLS"])
def test_training_equals_one_written_out(lesson, make, data, arm, whole):
    """Adam in plain arithmetic; with nanoGPT's rates, clip and weight decay."""
    recipe, mine, shares = lesson.Recipe(2, 20), {}, [1] * 6
    if whole:
        mine = {"betas": (0.9, 0.99), "decay": 0.5, "clip": 0.3}
        options = {"betas": (0.9, 0.99), "weight_decay": 0.5}
        more = {"warm_up": 2, "cosine": True, "clip": 0.3, "decay_matrices_only": True}
        recipe = lesson.Recipe(2, 20, 1e-3, "AdamW", options, **more)
        shares = [0.5, 1.0, 1.0, 0.55 + 0.45 / 2**0.5, 0.55, 0.55 - 0.45 / 2**0.5]
    model, again = (make(arm, dropout=0.0).double() for _ in "12")
    history = lesson.train(model, recipe, data, data, 7)
    order = torch.Generator().manual_seed(7)
    seen = [batch for _ in "12" for batch in lesson.batches(data, recipe, order)]
    norms = adam_by_hand(again, seen, [1e-3 * share for share in shares], **mine)
    assert np.allclose(history["gradients"], norms, rtol=1e-9)
    for name, p in model.named_parameters():
        assert torch.allclose(p, again.get_parameter(name), atol=1e-9), name


def test_a_seed_decides_all(lesson, make, data):
    """Order and dropout, whatever was drawn before; the order whatever the arm."""
    trained, seen = [], []
    for arm in ("vanilla", *lesson.ARMS):
        model = make(arm)
        model.register_forward_pre_hook(lambda m, a: seen.extend([a[0]] * m.training))
        torch.seed()
        trained.append(lesson.train(model, lesson.Recipe(2, 20), data, data, 0))
    assert trained[0] == trained[1] != trained[2]  # the first of all arms is vanilla
    assert list(map(len, trained[0].values())) == [6, 3, 6]
    pairs = zip(seen, seen[:6] * len(trained), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD", "RMSprop", "Adadelta"])
def test_a_readers_model_trains(lesson, small, data, name):
    """Parameters of any shape move; a frozen block and one not used stay, and count zero."""

    def transform(x):
        return model.gate * model.ln_f(model.h[0](x)) + model.shift

    model = lesson.GPT(small)
    model.gate = nn.Parameter(torch.tensor(0.5))
    model.shift = nn.Parameter(torch.ones(1, 1, 32))
    model.h[0].requires_grad_(False)
    model.transform = transform
    before = {name: p.clone() for name, p in model.named_parameters()}
    recipe = lesson.Recipe(2, 16, 0.03, name, clip=1.0, decay_matrices_only=True)
    history = lesson.train(model, recipe, data, data, 0)
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) == name.startswith("h."), name
    assert history["gradients"] == [[0, 0]] * 6
    assert np.isfinite(lesson.summary(history, 2)["gradient"]).all()
    assert history["held_out"][-1] < history["held_out"][0]


def test_evaluation_is_the_mean_and_leaves_no_trace(lesson, make, data):
    model = make("CLS").train()
    before, weights = torch.get_rng_state(), [p.clone() for p in model.parameters()]
    found = [lesson.evaluate(model, data, size) for size in (20, 48)]
    lesson.generate(model, data[:, :3], 4)
    assert torch.equal(torch.get_rng_state(), before) and torch.is_grad_enabled()
    assert all(map(torch.equal, model.parameters(), weights))
    logp = model(data[:, :-1]).log_softmax(-1)
    expected = -logp.gather(2, data[:, 1:, None]).mean().item()
    assert found == pytest.approx([expected] * 2, abs=1e-5)
    counts = Counter(data[:, 1:].flatten().tolist()).values()
    unigram = -sum(k / 768 * math.log((k + 1 / 97) / 769) for k in counts)
    for arm, loss in (("vanilla", math.log(97)), ("log-frequency bias", unigram)):
        nn.init.zeros_((model := make(arm)).lm_head.weight)  # the states count no more
        assert lesson.evaluate(model, data) == pytest.approx(loss), arm


@pytest.mark.parametrize("broken", [(True, 1), (True, 5), (False, 2)])
def test_a_broken_run(lesson, small, make, data, broken):
    """A loss that is no number ends it and is not learned from; so in an evaluation."""
    model, calls = make("vanilla"), []

    def spoil(module, args, logits):
        calls.append(model.training)
        now = (model.training, calls.count(model.training)) == broken
        return logits * math.nan if now else logits

    model.register_forward_hook(spoil)
    rows, recipe = data[:10], lesson.Recipe(2, 4)  # three updates an epoch
    setting = lesson.Experiment(small, recipe, lambda *_: (rows, rows), (), {})
    update = broken[1] if broken[0] else 3
    assert lesson.run(setting, lambda *_: model, 0) == (model, {"broke": update})
    assert all(p.isfinite().all() for p in model.parameters())


def test_a_run(lesson, small, capsys):
    """It gives what can be stored, the same twice, watched or not; a seed its own."""

    def show(model):
        return str(lesson.generate(model, rows[:1, :3], 4).tolist())

    setting, arm = lesson.EXPERIMENTS["ten sentences"], lesson.ARMS["CLS"]
    setting = lesson.replace(setting, config=small)
    (model, kept), (_, again) = (lesson.run(setting, arm, 100) for _ in "12")
    assert json.loads(json.dumps(kept, allow_nan=False)) == kept == again
    assert kept["first"] != lesson.run(setting, arm, 101)[1]["first"]
    assert capsys.readouterr().out == ""
    rows, _ = setting.data(small, 100)
    watched = lesson.build(arm, small, rows, 100)
    told = lesson.train(watched, setting.recipe, rows, rows, 100, "CLS", show)
    steps = np.reshape(told["steps"], (5, 24))
    assert np.allclose(steps.mean(axis=1), kept["epoch"])
    assert kept["last"] == steps[:, -1].tolist() and kept["first"] == told["steps"][:10]
    assert kept["held_out"] == told["held_out"]
    said = capsys.readouterr().out.split("\r")[-1].splitlines()
    end = f"training {steps[4].mean():.3f}, held out {told['held_out'][-1]:.3f}"
    assert said[-1].strip() == f"CLS, epoch 5: {end}, writes {show(watched)!r}"
    assert kept["held_out"][-1] == lesson.evaluate(model, rows)
    p = model(rows[:, :-1]).softmax(-1)
    occurs = -p[..., rows.unique()].sum(-1).log().mean().item()
    assert kept["occurs"] == pytest.approx(occurs, abs=1e-5)
    assert kept["occurs"] + kept["which"] == pytest.approx(kept["held_out"][-1])
    model(rows[:32, :-1])
    first = [block.attn.weights[..., 0].mean(dim=(0, 2)).tolist() for block in model.h]
    assert kept["attention"] == first


def test_generation(lesson, make, random_ids):
    """At its coldest it takes the likeliest; else it draws by the softmax of the k best."""
    model, opening = make("CLS"), random_ids(2, 5)
    cold = lesson.generate(model, opening, 20, temperature=1e-9)
    assert torch.equal(lesson.generate(model, opening, 20, top_k=1), cold)
    assert torch.equal(cold[:, :5], opening) and cold.shape == (2, 25)
    for t in range(5, 25):  # the likeliest given the last 16, all that it can see
        expected = model(cold[:, max(0, t - 16) : t])[:, -1].argmax(-1)
        assert torch.equal(cold[:, t], expected)
    for temperature, k in ((1.0, None), (2.0, 5)):
        share = (model(opening)[0, -1] / temperature).softmax(-1).double()
        best = share.argsort(descending=True)[: k or 40]
        many = lesson.generate(model, opening[:1].expand(20_000, -1), 1, temperature, k)
        drawn = many[:, -1].bincount(minlength=97)[best]
        assert k is None or drawn.sum() == 20_000  # nothing else
        expected = drawn.sum() * share[best] / share[best].sum()
        assert stats.chisquare(drawn, expected.detach()).pvalue > 1e-3
