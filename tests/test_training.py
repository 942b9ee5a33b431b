"""Training, evaluation and generation."""

import math
from dataclasses import replace

import pytest
import torch


@pytest.fixture
def toy_windows(random_ids):
    """Ten windows for the `small` config."""
    return random_ids(10, 13)


def run(lesson, config, windows, seed=0, model_class=None, **recipe):
    model = lesson.build(model_class or lesson.GPT, config, seed)
    recipe = lesson.Recipe(**{"epochs": 2, "batch_size": 4, **recipe})
    return model, lesson.train(model, recipe, windows, windows, seed)


def test_history_has_the_right_shape(lesson, small, toy_windows):
    _, history = run(lesson, small, toy_windows)
    assert len(history.step) == 2 * math.ceil(10 / 4)
    assert len(history.epoch) == 2 and len(history.held_out) == 3
    assert history.epoch == [sum(history.step[:3]) / 3, sum(history.step[3:]) / 3]


def test_two_trainings_are_bit_identical_and_seeds_differ(lesson, small, toy_windows):
    first, again, other = (run(lesson, small, toy_windows, seed) for seed in (7, 7, 8))
    assert first[1] == again[1] and first[1] != other[1]
    for p, q in zip(first[0].parameters(), again[0].parameters(), strict=True):
        assert torch.equal(p, q)


def test_dropout_is_seeded(lesson, small, toy_windows):
    """What was drawn before the training changes nothing in it."""
    config, losses = replace(small, dropout=0.5), []
    for drawn_before in (1, 100):
        model = lesson.build(lesson.GPT, config, seed=0)
        torch.rand(drawn_before)
        losses.append(lesson.train(model, lesson.Recipe(1), toy_windows, toy_windows, 0).step)
    assert losses[0] == losses[1]


def test_pairs_see_the_same_batches(lesson, small, toy_windows, monkeypatch):
    seen = []
    original = lesson.batches

    def recording(*args):
        for idx, targets in original(*args):
            seen[-1].append((idx, targets))
            yield idx, targets

    monkeypatch.setattr(lesson, "batches", recording)
    for model_class in (lesson.GPT, lesson.GPTWithCLS):
        seen.append([])
        run(lesson, small, toy_windows, model_class=model_class)
    for (idx, targets), (idx_cls, targets_cls) in zip(*seen, strict=True):
        assert torch.equal(idx, idx_cls) and torch.equal(targets, targets_cls)
    orders = [torch.cat([idx for idx, _ in seen[0][e : e + 3]]) for e in (0, 3)]
    assert not torch.equal(*orders)  # a new order each epoch


def test_the_sampler_is_not_the_global_generator(lesson, toy_windows):
    """Drawing from the global generator between batches changes no batch."""
    orders = []
    for disturb in (False, True):
        torch.manual_seed(0)
        order = []
        for idx, _ in lesson.batches(toy_windows, 4, torch.Generator().manual_seed(1)):
            order.append(idx)
            if disturb:
                torch.rand(5)
        orders.append(torch.cat(order))
    assert torch.equal(*orders)


def test_batch_order_does_not_depend_on_dropout(lesson, small, toy_windows, monkeypatch):
    """A model that draws more random numbers must not see other batches."""
    seen = []
    original = lesson.batches
    monkeypatch.setattr(
        lesson, "batches", lambda *a: (seen.append(b[0]) or b for b in original(*a))
    )
    for dropout in (0.0, 0.5):
        run(lesson, replace(small, dropout=dropout), toy_windows)
    assert torch.equal(torch.cat(seen[:6]), torch.cat(seen[6:]))


def test_an_epoch_shows_every_window_once_with_targets_shifted_by_one(lesson, toy_windows):
    parts = list(lesson.batches(toy_windows, 4, torch.Generator()))
    assert [len(idx) for idx, _ in parts] == [4, 4, 2]
    idx, targets = (torch.cat(x) for x in zip(*parts, strict=True))
    assert torch.equal(idx[:, 1:], targets[:, :-1])
    shown = torch.cat([idx, targets[:, -1:]], dim=1)
    assert sorted(shown.tolist()) == sorted(toy_windows.tolist())


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_leaves_no_trace(lesson, small, toy_windows, training):
    model = lesson.build(lesson.GPTWithCLS, small, seed=0).train(training)
    before, weights = torch.get_rng_state(), [p.clone() for p in model.parameters()]
    first = lesson.evaluate(model, toy_windows)
    assert lesson.evaluate(model, toy_windows, batch_size=3) == pytest.approx(first, abs=1e-6)
    lesson.generate(model, toy_windows[:, :3], 4)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training is training and torch.is_grad_enabled()
    for p, q in zip(model.parameters(), weights, strict=True):
        assert torch.equal(p, q) and p.grad is None


def test_evaluation_is_the_mean_over_all_targets(lesson, small, toy_windows):
    model = lesson.build(lesson.GPT, small, seed=0).eval()
    logp = model(toy_windows[:, :-1]).log_softmax(-1)
    expected = -logp.gather(2, toy_windows[:, 1:, None]).mean().item()
    assert lesson.evaluate(model, toy_windows, batch_size=4) == pytest.approx(expected, abs=1e-5)


def test_evaluating_restores_the_mode_after_an_error(lesson, small):
    model = lesson.build(lesson.GPT, small, seed=0)
    with pytest.raises(ZeroDivisionError), lesson.evaluating(model):
        raise ZeroDivisionError
    assert model.training and torch.is_grad_enabled()


@pytest.mark.parametrize("name", ["GPT", "GPTWithCLS"])
def test_one_batch_can_be_memorised(lesson, small, toy_windows, name):
    config = replace(small, dropout=0.0)
    _, history = run(
        lesson,
        config,
        toy_windows,
        model_class=getattr(lesson, name),
        epochs=150,
        batch_size=10,
        learning_rate=3e-3,
    )
    # Only the first token of each window has several continuations; all else can be learned.
    assert history.held_out[0] > 4 and history.held_out[-1] < 0.3


def test_a_mask_is_needed_to_predict_random_tokens(lesson, small, random_ids):
    """On fresh random tokens no causal model can beat ln V."""
    train_windows, held_out = random_ids(64, 13), random_ids(64, 13)
    model = lesson.build(lesson.GPT, small, seed=0)
    history = lesson.train(model, lesson.Recipe(4, 16), train_windows, held_out, 0)
    assert min(history.held_out) > math.log(97) - 0.05


def test_a_loss_that_is_not_finite_stops_at_once(lesson, small, toy_windows):
    model = lesson.build(lesson.GPT, small, seed=0)
    with torch.no_grad():
        model.wte.weight[toy_windows[0, 0]] = math.nan
    with pytest.raises(FloatingPointError, match=r"update \d.*learning_rate=0.001"):
        lesson.train(model, lesson.Recipe(), toy_windows, toy_windows, 0, "vanilla")
    assert model.h[0].mlp.c_fc.weight.isfinite().all()  # stopped before the step


def test_generation(lesson, small, random_ids):
    model = lesson.build(lesson.GPT, replace(small, init="pytorch"), seed=0)
    opening = random_ids(2, 5)
    out = lesson.generate(model, opening, 20, seed=3)
    assert out.shape == (2, 25) and torch.equal(out[:, :5], opening)
    assert torch.equal(out, lesson.generate(model, opening, 20, seed=3))
    assert not torch.equal(out, lesson.generate(model, opening, 20, seed=4))
    greedy = lesson.generate(model, opening, 20, temperature=0)
    assert torch.equal(greedy, lesson.generate(model, opening, 20, top_k=1, seed=9))
    model.eval()
    for t in range(5, 25):  # the likeliest token given the last 12, all that the model can see
        expected = model(greedy[:, max(0, t - 12) : t])[:, -1].argmax(-1)
        assert torch.equal(greedy[:, t], expected)
    assert torch.equal(lesson.generate(model, opening, 0), opening)


def test_sampling_follows_the_distribution(lesson, small, random_ids):
    """Frequencies of 20,000 draws against the softmax, for a temperature and a top-k."""
    model = lesson.build(lesson.GPT, small, seed=0).eval()
    idx = random_ids(1, 4).expand(20_000, -1)
    logits = model(idx[:1])[0, -1]
    for temperature, top_k in ((1.0, None), (0.5, 5)):
        drawn = lesson.generate(model, idx, 1, temperature, top_k)[:, -1]
        scaled = logits / temperature
        if top_k:
            scaled[scaled < scaled.topk(top_k).values[-1]] = -math.inf
        expected = scaled.softmax(-1)
        observed = drawn.bincount(minlength=97) / len(drawn)
        assert (observed - expected).abs().max() < 4 * (0.25 / len(drawn)) ** 0.5
        assert (observed[expected == 0] == 0).all()


def test_gradient_norms_are_those_of_the_blocks(lesson, small, toy_windows):
    """The recorded norms equal those computed apart, and recording them changes no update."""
    model, history = run(lesson, replace(small, dropout=0.0), toy_windows, epochs=1, batch_size=10)
    again = lesson.build(lesson.GPT, replace(small, dropout=0.0), seed=0)
    again(toy_windows[:, :-1], toy_windows[:, 1:])[1].backward()
    for block, norm in zip(again.h, history.gradient[0], strict=True):
        squares = sum((p.grad**2).sum().item() for p in block.parameters())
        assert norm == pytest.approx(math.sqrt(squares), rel=1e-4)
    torch.optim.Adam(again.parameters(), lr=1e-3).step()
    for p, q in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-5)


def test_bfloat16_is_for_matrix_products_alone(lesson, small, toy_windows, monkeypatch):
    _, exact = run(lesson, small, toy_windows, epochs=5)
    monkeypatch.setattr(lesson, "PRECISION", "bfloat16")
    seen = []
    model = lesson.build(lesson.GPT, small, seed=0)
    model.lm_head.register_forward_hook(lambda *args: seen.append(args[2].dtype))
    recipe = lesson.Recipe(epochs=5, batch_size=4)
    rounded = lesson.train(model, recipe, toy_windows, toy_windows, seed=0)
    assert set(seen) == {torch.bfloat16}
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters())
    assert rounded.held_out != exact.held_out
    assert rounded.held_out == pytest.approx(exact.held_out, abs=0.02)
    assert model(toy_windows[:, :-1]).dtype == torch.float32  # outside train and evaluate


@pytest.mark.parametrize("stop_at", [0, 2, 3, 4])
def test_a_stopped_training_keeps_what_it_has(
    lesson, small, toy_windows, monkeypatch, capsys, stop_at
):
    """Three updates an epoch; the stop button is pressed in the first or the second epoch."""
    _, whole = run(lesson, small, toy_windows)
    original, done = lesson.update, []

    def stopping(*args):
        if len(done) == stop_at:
            raise KeyboardInterrupt
        done.append(original(*args))
        return done[-1]

    monkeypatch.setattr(lesson, "update", stopping)
    _, history = run(lesson, small, toy_windows)
    epochs = stop_at // 3
    assert history.stopped and not whole.stopped
    for name, n in (("step", stop_at), ("epoch", epochs), ("held_out", 1 + epochs)):
        kept, complete = getattr(history, name), getattr(whole, name)
        assert kept[:n] == complete[:n] and len(kept) == len(complete)
        assert all(math.isnan(loss) for loss in kept[n:])
    assert len(history.gradient) == 6 and math.isnan(history.gradient[-1][0])
    assert f"stopped in epoch {epochs + 1}" in capsys.readouterr().out


def test_after_a_stop_the_rest_of_a_sweep_is_skipped(lesson, small, toy_windows, monkeypatch):
    calls = []

    def stopping(*args):
        calls.append(args)
        raise KeyboardInterrupt

    monkeypatch.setattr(lesson, "update", stopping)
    arms, recipe = {"a": lesson.GPT, "b": lesson.GPTWithCLS}, lesson.Recipe(epochs=2)
    runs = lesson.sweep(arms, small, recipe, toy_windows, toy_windows, range(3))
    assert len(calls) == 1 and all(run.stopped for arm in arms for run in runs[arm])
    assert {len(run.held_out) for arm in arms for run in runs[arm]} == {3}
    mean, half, p = lesson.paired(*([r.held_out[-1] for r in runs[arm]] for arm in arms))
    assert lesson.judge(mean, half, p) == "not resolved"


def test_out_of_memory_names_the_knobs(lesson, small, toy_windows, monkeypatch):
    for error in (torch.OutOfMemoryError, RuntimeError):

        def exhausted(*args, error=error):
            raise error("DefaultCPUAllocator: can't allocate memory")

        monkeypatch.setattr(lesson, "update", exhausted)
        with pytest.raises(error) as caught:
            run(lesson, small, toy_windows)
        for word in ("allocate memory", "update 1", "batch_size", "block_size", "n_embd"):
            assert word in str(caught.value)
