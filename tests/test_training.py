"""Batches, training, evaluation and generation."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR


@pytest.fixture
def data(random_ids):
    """Ten windows for the `small` config."""
    return random_ids(10, 13)


@pytest.fixture
def fit(lesson, small, data):
    """Return a function that trains an arm; every option goes where it belongs."""

    def fit(arm="vanilla", seed=0, config=small, watch=None, **recipe):
        model = lesson.build(lesson.ARMS[arm], config, data, seed)
        if watch:
            model.register_forward_pre_hook(watch)
        recipe = lesson.Recipe(**{"epochs": 2, "batch_size": 4} | recipe)
        return model, lesson.train(model, recipe, data, data, seed)

    return fit


def recorder(seen):
    """A hook that keeps the ids of each training batch in `seen`."""
    return lambda model, args: seen.append(args[0]) if model.training else None


def test_an_epoch_shows_every_window_once_in_a_new_order(lesson, data):
    generator = torch.Generator().manual_seed(1)
    epochs = [
        lesson.batches(data, lesson.Recipe(batch_size=4), generator) for _ in "12"
    ]
    for parts in epochs:
        assert [len(part) for part in parts] == [4, 4, 2]
        assert sorted(torch.cat(parts).tolist()) == sorted(data.tolist())
    orders = [torch.cat(parts) for parts in (*epochs, [data])]
    assert not any(torch.equal(orders[i], orders[i - 1]) for i in range(3))


def test_random_batches(lesson):
    """All windows are drawn alike; a shorter training sees the same first batches."""
    rows = torch.arange(20)[:, None].expand(-1, 13)
    many, few = (
        lesson.batches(rows, lesson.Recipe(updates=n), torch.Generator().manual_seed(1))
        for n in (400, 10)
    )
    assert torch.equal(torch.stack(many[:10]), torch.stack(few))
    drawn = torch.stack(many)[:, :, 0].flatten()
    assert stats.chisquare(drawn.bincount(minlength=20)).pvalue > 1e-3


@pytest.mark.parametrize(("warm_up", "steps"), [(1, 7), (5, 6), (100, 2000)])
def test_learning_rates_equal_pytorchs_schedulers(lesson, warm_up, steps):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    rise = LinearLR(optimizer, 1 / warm_up, total_iters=max(1, warm_up - 1))
    fall = CosineAnnealingLR(optimizer, steps - warm_up, eta_min=0.1)
    expected = SequentialLR(optimizer, [rise, fall], [warm_up])
    recipe = lesson.Recipe(warm_up=warm_up, cosine=True)
    for step in range(steps):
        rate = recipe.share_of_rate(step, steps)
        assert rate == pytest.approx(expected.get_last_lr()[0]), step
        optimizer.step()
        expected.step()
    assert lesson.Recipe(warm_up=warm_up).share_of_rate(steps - 1, steps) == 1


def adam_by_hand(
    model, seen, rates, betas=(0.9, 0.999), decay=0.0, clip=math.inf, eps=1e-8
):
    """Train a model without dropout on batches; return the norms of the gradients."""
    moments, norms = {}, []
    for t, (batch, rate) in enumerate(zip(seen, rates, strict=True), start=1):
        logp = model(batch[:, :-1]).log_softmax(-1)
        loss = -logp.gather(2, batch[:, 1:, None]).mean()
        names, parameters = zip(*model.named_parameters(), strict=True)
        gradients = torch.autograd.grad(loss, parameters)
        total = math.sqrt(sum(g.square().sum().item() for g in gradients))
        norms.append([])
        for end in ("h.0.", "h.1."):
            mine = [
                g for n, g in zip(names, gradients, strict=True) if n.startswith(end)
            ]
            norms[-1].append(math.sqrt(sum(g.square().sum().item() for g in mine)))
        for name, p, g in zip(names, parameters, gradients, strict=True):
            g = g * min(1, clip / total)
            m, v = moments.get(name, (0, 0))
            m, v = (
                betas[0] * m + (1 - betas[0]) * g,
                betas[1] * v + (1 - betas[1]) * g**2,
            )
            moments[name] = m, v
            step = (m / (1 - betas[0] ** t)) / ((v / (1 - betas[1] ** t)).sqrt() + eps)
            with torch.no_grad():
                p.mul_(1 - rate * decay * (p.dim() > 1)).sub_(rate * step)
    return norms


@pytest.mark.parametrize("arm", ["vanilla", "CLS"])
@pytest.mark.parametrize("whole_recipe", [False, True])
def test_training_equals_one_written_out(lesson, small, data, fit, arm, whole_recipe):
    """Adam in plain arithmetic; with nanoGPT's rates, clip and weight decay."""
    config, seen, steps = replace(small, dropout=0.0), [], 6
    recipe, mine, rates = {}, {}, [1e-3] * steps
    if whole_recipe:
        betas = (0.9, 0.99)
        recipe = {
            "optimizer": "AdamW",
            "options": {"betas": betas, "weight_decay": 0.5},
        }
        recipe |= {
            "warm_up": 2,
            "cosine": True,
            "clip": 0.3,
            "decay_matrices_only": True,
        }
        mine = {"betas": betas, "decay": 0.5, "clip": 0.3}
        fall = [0.55 + 0.45 * math.cos(math.pi * t / 4) for t in range(4)]
        rates = [1e-3 * share for share in (0.5, 1.0, *fall)]
    model, history = fit(arm, config=config, watch=recorder(seen), **recipe)
    whole = {tuple(row[:-1].tolist()): row for row in data}
    seen = [torch.stack([whole[tuple(r)] for r in idx.tolist()]) for idx in seen]
    again = lesson.build(lesson.ARMS[arm], config, data, 0)
    norms = adam_by_hand(again, seen, rates, **mine)
    assert np.allclose(history.gradients, norms, rtol=1e-3)
    for (name, p), q in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.allclose(p, q, atol=2e-5), name


def test_two_trainings_are_bit_identical_and_seeds_differ(lesson, fit, monkeypatch):
    (model, first), (again, second), (_, other) = fit(seed=7), fit(seed=7), fit(seed=8)
    assert first == second and first.steps != other.steps
    for p, q in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q)
    monkeypatch.setattr(lesson, "tqdm", partial(lesson.tqdm, disable=True))
    assert fit(seed=7)[1] == first  # without a bar


def test_dropout_is_seeded(lesson, small, data):
    """What was drawn before the training changes nothing in it."""
    losses = []
    for drawn_before in (1, 100):
        model = lesson.build(
            lesson.ARMS["vanilla"], replace(small, dropout=0.5), data, 0
        )
        torch.rand(drawn_before)
        losses.append(lesson.train(model, lesson.Recipe(1, 4), data, data, 0).steps)
    assert losses[0] == losses[1] and len(losses[0]) == 3


def test_every_arm_sees_the_same_batches(lesson, small, fit):
    """Also if it draws more random numbers for its dropout."""
    expected = []
    fit(watch=recorder(expected), config=replace(small, dropout=0.0))
    assert len(expected) == 6
    for arm in lesson.ARMS:
        seen = []
        fit(arm, watch=recorder(seen))
        assert all(torch.equal(*pair) for pair in zip(expected, seen, strict=True)), arm


@pytest.mark.parametrize("arm", ["vanilla", "CLS"])
def test_evaluation_is_the_mean_and_leaves_no_trace(lesson, small, data, arm):
    model = lesson.build(lesson.ARMS[arm], small, data, 0).train()
    before, weights = torch.get_rng_state(), [p.clone() for p in model.parameters()]
    found = [lesson.evaluate(model, data, size) for size in (4, 32)]
    lesson.generate(model, data[:, :3], 4)
    assert torch.equal(torch.get_rng_state(), before) and torch.is_grad_enabled()
    for p, q in zip(model.parameters(), weights, strict=True):
        assert torch.equal(p, q) and p.grad is None
    logp = model.eval()(data[:, :-1]).log_softmax(-1)
    expected = -logp.gather(2, data[:, 1:, None]).mean().item()
    assert found == pytest.approx([expected] * 2, abs=1e-5)


@pytest.mark.parametrize("update", [1, 3])
def test_a_loss_that_is_not_finite_stops_before_it_is_learned(
    lesson, small, data, update
):
    model = lesson.build(lesson.ARMS["vanilla"], small, data, 0)
    seen = []

    def spoil(model, args, logits):
        seen.append(model.training)
        return logits * math.nan if sum(seen) == update and model.training else logits

    model.register_forward_hook(spoil)
    with pytest.raises(
        FloatingPointError, match=f"update {update}: .*nan.*learning_rate"
    ):
        lesson.train(model, lesson.Recipe(2, 4), data, data, 0)
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("training", "call"), [(True, 1), (True, 5), (False, 1), (False, 2)]
)
def test_a_stopped_training_keeps_what_it_has(fit, capsys, training, call):
    """Three updates an epoch; stopped in the nth of them, or the nth evaluation."""
    calls = []

    def stop(model, args):
        calls.append(model.training)
        if model.training == training and calls.count(training) == call:
            raise KeyboardInterrupt

    whole, history = fit()[1], fit(watch=stop)[1]
    updates = call - 1 if training else 3 * (call - 1)
    evaluations = 1 + (call - 1) // 3 if training else call - 1
    assert history.steps == whole.steps[:updates]
    assert history.gradients == whole.gradients[:updates]
    assert history.held_out == whole.held_out[:evaluations]
    assert f"stopped after {updates} of 6" in capsys.readouterr().out


def test_generation(lesson, small, random_ids):
    config, opening = replace(small, init="pytorch"), random_ids(2, 5)
    for arm in ("vanilla", "CLS"):
        model = lesson.build(lesson.ARMS[arm], config, None, 0)
        generate = partial(lesson.generate, model, opening)
        out = generate(20, seed=3)
        assert out.shape == (2, 25) and torch.equal(out[:, :5], opening)
        assert torch.equal(out, generate(20, seed=3))
        assert not torch.equal(out, generate(20, seed=4))
        greedy = generate(20, temperature=0)
        assert torch.equal(greedy, generate(20, top_k=1, seed=9))
        for t in range(5, 25):  # the likeliest given the last 12, all that it can see
            expected = model(greedy[:, max(0, t - 12) : t])[:, -1].argmax(-1)
            assert torch.equal(greedy[:, t], expected)
        assert torch.equal(generate(0), opening)


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, None), (0.5, 5), (2.0, 1000)])
def test_sampling_follows_the_distribution(
    lesson, small, random_ids, temperature, top_k
):
    """Frequencies of 20,000 draws against the softmax, by a chi-square test."""
    model = lesson.build(lesson.ARMS["vanilla"], small, None, 0).eval()
    idx = random_ids(1, 4).expand(20_000, -1)
    expected = (model(idx[:1])[0, -1] / temperature).softmax(-1).detach().double()
    best = expected.argsort(descending=True)[:top_k]
    drawn = lesson.generate(model, idx, 1, temperature, top_k)[:, -1]
    counts = drawn.bincount(minlength=97)[best]
    assert counts.sum() == 20_000  # nothing else
    share = expected[best] / expected[best].sum()
    assert stats.chisquare(counts, 20_000 * share).pvalue > 1e-3


@pytest.mark.parametrize("options", [
    {"temperature": -1}, {"temperature": math.nan}, {"temperature": "1"},
    {"top_k": -2}, {"top_k": 1.5}, {"top_k": "3"},
])  # fmt: skip
def test_bad_values_for_generation(lesson, small, random_ids, options):
    model = lesson.build(lesson.ARMS["vanilla"], small, None, 0)
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"{name}={value!r}: expected a"):
        lesson.generate(model, random_ids(1, 3), 1, **options)


@pytest.mark.parametrize(("name", "value"), [
    ("epochs", 0), ("epochs", 2.0), ("epochs", "5"), ("batch_size", -1),
    ("batch_size", True), ("updates", 0), ("updates", 1.5), ("learning_rate", -1e-3),
    ("learning_rate", "1e-3"), ("learning_rate", math.nan), ("learning_rate", math.inf),
    ("optimizer", "Adamm"), ("optimizer", None),
])  # fmt: skip
def test_bad_recipes(lesson, name, value):
    with pytest.raises(ValueError, match=f"{name}={value!r}: expected a"):
        lesson.Recipe(**{name: value})


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD", "RMSprop", "Adadelta"])
def test_optimizers_of_pytorch_take_a_step(lesson, small, name):
    model = lesson.GPT(small)
    before = model.wpe.weight.clone()
    model.wpe.weight.grad = torch.ones_like(before)
    lesson.Recipe(optimizer=name).make_optimizer(model).step()
    assert (model.wpe.weight < before).all()


def test_windows_are_whole_and_of_one_text(lesson):
    texts = [torch.arange(10), torch.arange(100, 103), torch.arange(200, 209)]
    found = lesson.windows(texts, 4).tolist()
    assert found == [[a, a + 1, a + 2, a + 3, a + 4] for a in (0, 4, 200, 204)]
    assert len(lesson.windows(texts, 4, stride=1)) == 6 + 5
    with pytest.raises(ValueError, match="block_size=10"):
        lesson.windows(texts, 10)
