"""Time the notebook's model against the floor and against a peer, in one process.

    python tests/bench.py

The floor of an update is its matrix products alone; that of a run in the released setting, the
optimizer's updates alone; the peer is Hugging Face's GPT-2 of the same shape. All are timed in
turn, round by round, and the median is printed, with the ratio to the first of its group: these
machines are noisy, and ratios within a round last longer than times. On a CUDA machine the same
command measures the GPU; DEVICE=cpu says otherwise.
"""

import copy
import math
import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import lesson as lesson_loader
import numpy as np
import torch
import torch.nn.functional as F
from build import DATA
from peer import peer
from transformers.utils import logging

ROUNDS = 9
PEAK = r"""
import re, sys
sys.path.insert(0, {here!r})
import bench
update = bench.updates({model!r}, {size!r})
for _ in range(3):
    update()
if bench.lesson.DEVICE.type == "cuda":
    print(bench.torch.cuda.max_memory_allocated() / 2**30)
else:
    print(int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) / 2**20)
"""


def wait():
    """Wait until the device is done."""
    if lesson.DEVICE.type == "cuda":
        torch.cuda.synchronize()


def rounds(cases, n=ROUNDS):
    """Run the cases in turn, n times; return {name: the seconds of each round}."""
    times = {name: [] for name in cases}
    for _ in range(n + 1):  # the first round warms up
        for name, case in cases.items():
            wait()
            start = time.perf_counter()
            case()
            wait()
            times[name].append(time.perf_counter() - start)
    return {name: mine[1:] for name, mine in times.items()}


def compare(title, cases, tokens=None):
    """Print medians, ratios to the first case and, if given, tokens per second."""
    times = rounds(cases)
    first = next(iter(times.values()))
    print(f"\n{title}")
    for name, mine in times.items():
        ratio = statistics.median(a / b for a, b in zip(mine, first, strict=True))
        speed = f"{tokens / statistics.median(mine):12,.0f} tokens/s" if tokens else ""
        print(f"  {name:40} {1e3 * statistics.median(mine):9.1f} ms {ratio:7.2f}{speed}")


def matrix_products(config, batch_size, dtype=torch.float32):
    """A function that does every matrix product of one update, forward and backward."""
    T, C, H, V = config.block_size, config.n_embd, config.n_head, config.vocab_size
    N, D = batch_size * T, C // H
    new = {"device": lesson.DEVICE, "dtype": dtype}
    body = [(C, 3 * C), (C, C), (C, 4 * C), (4 * C, C)] * config.n_layer
    rows = [(min(256, N), C, V)] * math.ceil(N / 256) + [(N, *shape) for shape in body]
    linear = [(torch.randn(n, i, **new), torch.randn(n, o, **new)) for n, i, o in set(rows)]
    tensors = {(len(x), x.shape[1], g.shape[1]): (x, g) for x, g in linear}
    weight = {shape: torch.randn(shape[2], shape[1], **new) for shape in tensors}
    q, weights = torch.randn(batch_size * H, T, D, **new), torch.randn(batch_size * H, T, T, **new)

    def products():
        for shape in rows:
            (x, gradient), w = tensors[shape], weight[shape]
            F.linear(x, w)
            gradient @ w
            gradient.T @ x
        for _ in range(config.n_layer):
            for _ in range(2):  # q kᵀ and the gradient of the weights
                q @ q.transpose(1, 2)
            for a in (weights, weights, weights.mT, weights.mT):  # weights v, and gradients
                a @ q

    return products


def plain_update(model, optimizer, idx, targets):
    """An update in float32 with the table of all logits, for the notebook's model or the peer."""
    logits = model(idx)
    logits = getattr(logits, "logits", logits)  # the peer wraps them
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def updater(model, optimizer, batch):
    """A function that does one update of the notebook in the precision of now."""
    precision = lesson.PRECISION

    def update():
        lesson.PRECISION = precision
        lesson.update(model, optimizer, *batch)

    return update


def adam(model):
    """The optimizer of the documented setting."""
    return torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)


def random_batch(config, batch_size):
    """Inputs and targets (batch_size, T) of random ids."""
    ids = torch.randint(config.vocab_size, (batch_size, config.block_size + 1))
    return ids[:, :-1].to(lesson.DEVICE), ids[:, 1:].to(lesson.DEVICE)


def updates(model_name, size):
    """A function that does one update of a documented model of another size."""
    size = dict(size)
    batch_size = size.pop("batch_size", 32)
    config = replace(lesson.GPTConfig(), **size)
    model = lesson.build(getattr(lesson, model_name), config, 0)
    return updater(model, adam(model), random_batch(config, batch_size))


def peak(model_name, size):
    """GiB of memory at most (on Linux), of a process of its own that does three such updates."""
    code = PEAK.format(here=os.path.dirname(os.path.abspath(__file__)), model=model_name, size=size)
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def grow(title, sizes, work):
    """Print time and peak memory of one update for each size, and the fitted exponents."""
    seconds = [statistics.median(rounds({"": updates("GPT", size)}, 3)[""]) for size in sizes]
    memory = [peak("GPT", size) for size in sizes]
    print(f"\n{title}, {lesson.PRECISION}")
    for n, s, m in zip(work, seconds, memory, strict=True):
        print(f"  {n:8,} {1e3 * s:9.1f} ms {m:7.2f} GiB")
    exponents = (np.polyfit(np.log(work), np.log(x), 1)[0] for x in (seconds, memory))
    print("  time ~ n^{:.2f}, memory ~ n^{:.2f}".format(*exponents))


def documented():
    """One update, evaluation and generation in the documented setting."""
    config = lesson.GPTConfig()
    corpus = lesson.Corpus(DATA, lesson.DATA_SHA256)
    windows = lesson.windows([corpus.texts["Hamlet"]], config.block_size)[:32].to(lesson.DEVICE)
    batch = windows[:, :-1], windows[:, 1:]
    theirs = peer(config).to(lesson.DEVICE).train()
    copied = copy.deepcopy(theirs)
    their_update = partial(plain_update, copied, adam(copied), *batch)
    for precision in reversed(lesson.precisions(lesson.DEVICE)):
        lesson.PRECISION = precision
        models = [lesson.build(make, config, 0) for make in (lesson.GPT, lesson.GPTWithCLS)]
        vanilla, cls = (updater(model, adam(model), batch) for model in models)
        cases = {
            "floor: its matrix products": matrix_products(config, 32, getattr(torch, precision)),
            "vanilla": vanilla,
            "CLS": cls,
            "Hugging Face, float32": their_update,
        }
        compare(f"One update, documented setting, {precision}", cases, 2048)

    vanilla = lesson.build(lesson.GPT, config, 0)

    def their_evaluation():
        with torch.no_grad():
            F.cross_entropy(theirs(batch[0]).logits.flatten(0, 1), batch[1].flatten()).item()

    cases = {
        "Hugging Face, float32": their_evaluation,
        f"vanilla, {lesson.PRECISION}": lambda: lesson.evaluate(vanilla, windows),
    }
    theirs.eval()
    compare("Evaluation", cases, 2048)
    opening = windows[:1, :1]
    how = {"max_new_tokens": 63, "min_new_tokens": 63, "do_sample": False, "pad_token_id": 0}
    cases = {
        "Hugging Face with its cache": lambda: theirs.generate(opening, **how),
        f"vanilla, {lesson.PRECISION}": lambda: lesson.generate(
            vanilla, opening, 63, temperature=0
        ),
    }
    compare("Generation, greedy, batch 1; the peer in float32", cases, 63)


def released():
    """One update in the released setting."""
    batch = lesson.TINY[:2, :-1], lesson.TINY[:2, 1:]
    for precision in reversed(lesson.precisions(lesson.DEVICE)):
        lesson.PRECISION = precision
        models = [lesson.build(lesson.GPT, lesson.RELEASED, 0) for _ in range(3)]
        ways = ({"fused": True}, {"fused": True}, {"foreach": False})
        adamw = [
            torch.optim.AdamW(model.parameters(), lr=3e-4, **way)
            for model, way in zip(models, ways, strict=True)
        ]
        plain_update(models[0], adamw[0], *batch)
        products = matrix_products(lesson.RELEASED, 2, getattr(torch, precision))
        cases = {
            "floor: AdamW alone, fused": adamw[0].step,
            "its matrix products alone": products,
            "vanilla": updater(models[1], adamw[1], batch),
            "plain defaults, float32": partial(plain_update, models[2], adamw[2], *batch),
        }
        compare(f"One update, released setting, {precision}", cases, 32)


def main():
    logging.set_verbosity_error()
    print(f"torch {torch.__version__}, {lesson.DEVICE}, {torch.get_num_threads()} threads")
    documented()
    released()
    lesson.PRECISION = lesson.precisions(lesson.DEVICE)[0]
    sizes = [{"batch_size": n} for n in (32, 64, 128)]
    grow("Tokens a batch", sizes, [2048, 4096, 8192])
    contexts = (64, 256, 1024)
    sizes = [{"block_size": n, "batch_size": 2048 // n, "vocab_size": 5000} for n in contexts]
    grow("Context, at 2,048 tokens a batch", sizes, contexts)
    vocabularies = (5_000, 15_000, 50_000)
    grow("Vocabulary", [{"vocab_size": n} for n in vocabularies], vocabularies)
    memory = {name: peak(name, {}) for name in ("GPT", "GPTWithCLS")}
    print(
        f"\nPeak memory of an update: {memory['GPT']:.2f} GiB, CLS {memory['GPTWithCLS']:.2f} GiB"
    )


lesson = lesson_loader.load()
lesson.keep_freed_memory()

if __name__ == "__main__":
    main()
