"""Time an update of the notebook's models against the floor and a peer, in one process.

    python tests/bench.py

The floor of an update is its matrix products alone; the peer is Hugging Face's GPT-2. All are
timed in turn, and medians printed, with the ratio to the first of the same round: machines
are noisy, ratios are less so. On a CUDA machine it measures the GPU, unless DEVICE=cpu.
"""

import os
import sys
from functools import partial
from pathlib import Path
from statistics import median

import torch
from peer import peer
from torch import nn
from torch.utils.benchmark import Timer
from transformers.utils import logging

os.chdir(Path(__file__).resolve().parents[1])  # where the notebook's paths start
sys.path.insert(0, "data")
import runs  # noqa: E402

ROUNDS = 9
lesson = runs.load(runs.definitions())
device = torch.device(lesson.DEVICE)


def matrix_products(model, batch):
    """A function that does every matrix product of one update, forward and backward."""
    linear = [m.weight.detach() for m in model.modules() if isinstance(m, nn.Linear)]
    (B, T), C, H = batch[:, 1:].shape, model.config.n_embd, model.config.n_head
    randn = partial(torch.randn, device=device)
    x = {size: randn(B * T, size) for w in linear for size in w.shape}
    q, weights = randn(B * H, T, C // H), randn(B * H, T, T)

    def products():
        for w in linear:
            out, into = w.shape
            x[into] @ w.T
            x[out] @ w  # the gradient of its input
            x[out].T @ x[into]  # and of its weights
        for _ in model.h:
            q @ q.mT, q @ q.mT  # scores, and the gradient of the weights
            weights @ q, weights @ q, weights.mT @ q, weights.mT @ q

    return products


def update(model, optimizer, batch):
    optimizer.zero_grad()
    lesson.loss_on(model, batch).backward()
    optimizer.step()


def bench(name):
    """Time the updates of an experiment in turn; print medians and ratios."""
    setting = lesson.EXPERIMENTS[name]
    batch = setting.data(setting.config, 0)[0][: setting.recipe.batch_size].to(device)
    models = {"Hugging Face": peer(setting.config).to(device)}
    models["Hugging Face"].register_forward_hook(lambda module, args, out: out.logits)
    for arm in ("vanilla", "CLS"):
        models[arm] = lesson.build(lesson.ARMS[arm], setting.config, batch, 0)
    cases = {"floor, its matrix products": matrix_products(models["vanilla"], batch)}
    for who, model in models.items():
        optimizer = lesson.make_optimizer(model, setting.recipe)
        cases[who] = partial(update, model, optimizer, batch)
    options = {"stmt": "case()", "num_threads": torch.get_num_threads()}
    timers = [Timer(globals={"case": case}, **options) for case in cases.values()]
    rounds = [[timer.timeit(1).mean for timer in timers] for _ in range(ROUNDS)]
    print(f"\nOne update, {name}, float32")
    for i, case in enumerate(cases):
        milliseconds = 1e3 * median(times[i] for times in rounds)
        ratio = median(times[i] / times[0] for times in rounds)
        print(f"  {case:30} {milliseconds:9.1f} ms {ratio:7.2f}")


if __name__ == "__main__":
    logging.set_verbosity_error()
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads")
    bench("documented")
    bench("ten sentences")
