"""Time the notebook's models against the floor and against a peer, in one process.

    python tests/bench.py

The floor of an update is its matrix products alone; the peer is Hugging Face's GPT-2 of the
same shape. All are timed in turn, round by round, and the median is printed with the ratio to
the first of its group: machines are noisy, and ratios within a round last longer than times.
On a CUDA machine the same command measures the GPU; DEVICE=cpu says otherwise.
"""

import os
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from peer import peer
from transformers.utils import logging

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "data"))
import runs  # noqa: E402

ROUNDS = 9


def wait():
    """Wait until the device is done."""
    if lesson.DEVICE.type == "cuda":
        torch.cuda.synchronize()


def compare(title, cases):
    """Run the cases in turn; print medians and their ratios to the first case."""
    times = {name: [] for name in cases}
    for _ in range(ROUNDS + 1):  # the first round warms up
        for name, case in cases.items():
            wait()
            start = time.perf_counter()
            case()
            wait()
            times[name].append(time.perf_counter() - start)
    first = next(iter(times.values()))[1:]
    print(f"\n{title}")
    for name, mine in times.items():
        ratio = statistics.median(a / b for a, b in zip(mine[1:], first, strict=True))
        median = 1e3 * statistics.median(mine[1:])
        print(f"  {name:30} {median:9.1f} ms {ratio:7.2f}")


def matrix_products(config, batch_size):
    """A function that does every matrix product of one update, forward and backward."""
    T, C, H, V = config.block_size, config.n_embd, config.n_head, config.vocab_size
    N, D = batch_size * T, C // H
    linear = [(C, 3 * C), (C, C), (C, 4 * C), (4 * C, C)] * config.n_layer + [(C, V)]
    device = lesson.DEVICE
    x = {size: torch.randn(N, size, device=device) for pair in linear for size in pair}
    w = {(i, o): torch.randn(o, i, device=device) for i, o in linear}
    q = torch.randn(batch_size * H, T, D, device=device)
    weights = torch.randn(batch_size * H, T, T, device=device)

    def products():
        for i, o in linear:
            F.linear(x[i], w[i, o])
            x[o] @ w[i, o]  # the gradient of its input
            x[o].T @ x[i]  # and of its weights
        for _ in range(config.n_layer):
            q @ q.mT, q @ q.mT  # scores, and the gradient of the weights
            weights @ q, weights @ q, weights.mT @ q, weights.mT @ q

    return products


def update(model, optimizer, batch):
    """A function that does one update."""

    def step():
        optimizer.zero_grad()
        logits = model(batch[:, :-1])
        logits = getattr(logits, "logits", logits)  # the peer wraps them
        F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()).backward()
        optimizer.step()

    return step


def documented():
    """One update, evaluation and generation in the documented setting."""
    config, recipe = lesson.GPTConfig(), lesson.Recipe()
    batch = lesson.hamlet(config, 0)[0][:32].to(lesson.DEVICE)
    theirs = peer(config).to(lesson.DEVICE).train()
    names = ("vanilla", "CLS")
    models = [lesson.build(lesson.ARMS[name], config, None, 0) for name in names]
    cases = {"floor: its matrix products": matrix_products(config, 32)}
    for name, model in zip(names, models, strict=True):
        cases[name] = update(model, recipe.make_optimizer(model), batch)
    cases["Hugging Face"] = update(theirs, recipe.make_optimizer(theirs), batch)
    compare("One update, documented setting, float32", cases)

    @torch.no_grad()
    def their_evaluation():
        logits = theirs.eval()(batch[:, :-1]).logits
        return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()).item()

    ours = {"Hugging Face": their_evaluation}
    ours["vanilla"] = lambda: lesson.evaluate(models[0], batch)
    compare("Evaluation of 32 windows", ours)
    start = batch[:1, :1]
    greedy = {"max_new_tokens": 63, "min_new_tokens": 63, "do_sample": False}
    greedy["pad_token_id"] = 0
    cases = {"Hugging Face, with its cache": lambda: theirs.generate(start, **greedy)}
    cases["vanilla"] = lambda: lesson.generate(models[0], start, 63, temperature=0)
    compare("Generation of 63 tokens, greedy", cases)


def released():
    """One update in the released setting, beside its optimizer alone."""
    setting = lesson.EXPERIMENTS["ten sentences"]
    batch = setting.data(setting.config, 0)[0][:2].to(lesson.DEVICE)
    model = lesson.build(lesson.ARMS["vanilla"], setting.config, None, 0)
    optimizer = setting.recipe.make_optimizer(model)
    step = update(model, optimizer, batch)
    step()
    cases = {"floor: AdamW alone, fused": optimizer.step, "vanilla": step}
    cases["its matrix products alone"] = matrix_products(setting.config, 2)
    compare("One update, released setting, float32", cases)


os.chdir(ROOT)
lesson = runs.load(runs.definitions())

if __name__ == "__main__":
    logging.set_verbosity_error()
    threads = torch.get_num_threads()
    print(f"torch {torch.__version__}, {lesson.DEVICE}, {threads} threads")
    documented()
    released()
