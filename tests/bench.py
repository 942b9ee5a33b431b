"""Time the notebook's models against the floor and against a peer, in one process.

    python tests/bench.py

The floor of an update is its matrix products alone; the peer is Hugging Face's GPT-2. All are
timed in turn, and medians printed, with the ratio to the first of the same round: machines
are noisy, ratios are less so. On a CUDA machine it measures the GPU, unless DEVICE=cpu.
"""

import os
import statistics
import sys
import time
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from peer import peer
from transformers.utils import logging

os.chdir(Path(__file__).resolve().parents[1])  # where the notebook's paths start
sys.path.insert(0, "data")
import runs  # noqa: E402

ARMS, ROUNDS = ("vanilla", "CLS"), 9
lesson = runs.load(runs.definitions())
device = torch.device(lesson.DEVICE)


def seconds(case):
    """How long a case takes, until the device is done."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    case()
    wait()
    return time.perf_counter() - start


def compare(title, cases):
    """Run the cases in turn; print medians and their ratios to the first case."""
    rounds = [list(map(seconds, cases.values())) for _ in range(ROUNDS + 1)]
    print(f"\n{title}")
    for i, name in enumerate(cases):  # the first round warms up
        ratio = statistics.median(times[i] / times[0] for times in rounds[1:])
        median = 1e3 * statistics.median(times[i] for times in rounds[1:])
        print(f"  {name:30} {median:9.1f} ms {ratio:7.2f}")


def matrix_products(config, batch_size):
    """A function that does every matrix product of one update, forward and backward."""
    T, C, H, V = config.block_size, config.n_embd, config.n_head, config.vocab_size
    N, D = batch_size * T, C // H
    linear = [(C, 3 * C), (C, C), (C, 4 * C), (4 * C, C)] * config.n_layer + [(C, V)]
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
    """Do one update."""
    optimizer.zero_grad()
    lesson.loss_on(model, batch).backward()
    optimizer.step()


def bench(name):
    """One update of an experiment, and evaluation and generation of its models."""
    setting = lesson.EXPERIMENTS[name]
    config, recipe = setting.config, setting.recipe
    data = setting.data(config, 0)[0].to(device)
    batch, start, n = data[: recipe.batch_size], data[:1, :1], config.block_size - 1
    theirs = peer(config).to(device)
    hook = theirs.register_forward_hook(lambda module, args, out: out.logits)
    models = {"Hugging Face": theirs}
    models |= {arm: lesson.build(lesson.ARMS[arm], config, data, 0) for arm in ARMS}
    cases = {"floor: its matrix products": matrix_products(config, len(batch))}
    for who, model in models.items():
        optimizer = lesson.make_optimizer(model, recipe)
        cases[who] = partial(update, model, optimizer, batch)
    cases["its optimizer alone"] = optimizer.step
    compare(f"One update, {name}, float32", cases)
    cases = {m: partial(lesson.evaluate, models[m], data[:32]) for m in models}
    compare(f"Evaluation of 32 windows, {name}", cases)
    options = {"attention_mask": torch.ones_like(start), "pad_token_id": 0}
    options |= {"max_new_tokens": n, "min_new_tokens": n, "do_sample": False}
    hook.remove()
    cases = {"Hugging Face, cached": partial(theirs.generate, start, **options)}
    cases |= {m: partial(lesson.generate, models[m], start, n, top_k=1) for m in ARMS}
    compare(f"Generation of {n} tokens, {name}", cases)


if __name__ == "__main__":
    logging.set_verbosity_error()
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads")
    bench("documented")
    bench("ten sentences")
