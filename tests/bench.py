"""Time the notebook's model against the floor and against a peer, in one process.

    python tests/bench.py

The floor of an update is its matrix products alone; that of a run in the released setting, the
optimizer's updates alone; the peer is Hugging Face's GPT-2 of the same shape. All are timed in
turn, round by round, and the median is printed, with the ratio to the first of its group: these
machines are noisy, and ratios within a round last longer than times.
"""

import statistics
import time

import lesson as lesson_loader
import torch
import torch.nn.functional as F
from build import DATA
from peer import peer
from transformers import GPT2LMHeadModel

ROUNDS = 9


def compare(title, cases):
    """Run the cases in turn, ROUNDS times; print medians and ratios to the first case."""
    times = {name: [] for name in cases}
    for _ in range(ROUNDS + 1):  # the first round warms up
        for name, case in cases.items():
            start = time.perf_counter()
            case()
            times[name].append(time.perf_counter() - start)
    print(f"\n{title}")
    first, *_ = times.values()
    for name, mine in times.items():
        ratio = statistics.median(a / b for a, b in zip(mine[1:], first[1:], strict=True))
        print(f"  {name:44} {1e3 * statistics.median(mine[1:]):9.1f} ms {ratio:7.2f}")


def matrix_products(config, batch_size):
    """A function that does every matrix product of one update, forward and backward."""
    T, C, H, V = config.block_size, config.n_embd, config.n_head, config.vocab_size
    N, D = batch_size * T, C // H
    shapes = [(C, V)] + [(C, 3 * C), (C, C), (C, 4 * C), (4 * C, C)] * config.n_layer
    linear = [(torch.randn(N, i), torch.randn(o, i), torch.randn(N, o)) for i, o in shapes]
    q, weights = torch.randn(batch_size * H, T, D), torch.randn(batch_size * H, T, T)

    def products():
        for x, w, gradient in linear:
            F.linear(x, w)
            gradient @ w
            gradient.T @ x
        for _ in range(config.n_layer):
            for _ in range(2):  # q kᵀ and the gradient of the weights
                q @ q.transpose(1, 2)
            for a in (weights, weights, weights.mT, weights.mT):  # weights v, and gradients
                a @ q

    return products


def updater(model, optimizer, loss_of):
    """A function that does one update and reads the loss."""

    def update():
        loss = loss_of(model)
        loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return update


def main():
    lesson = lesson_loader.load()
    lesson.DEVICE = torch.device("cpu")
    corpus = lesson.Corpus(DATA, lesson.DATA_SHA256)
    config = lesson.GPTConfig()
    windows = lesson.windows([corpus.texts["Hamlet"]], config.block_size)[:32]
    idx, targets = windows[:, :-1], windows[:, 1:]
    vanilla, cls = (lesson.build(c, config, 0) for c in (lesson.GPT, lesson.GPTWithCLS))
    theirs = peer(config).train()

    def loss_of(model):
        if isinstance(model, GPT2LMHeadModel):
            logits = model(idx).logits
            return F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return model(idx, targets)[1]

    def with_adam(model):
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
        return updater(model, optimizer, loss_of)

    for precision in ("highest", "medium"):
        torch.set_float32_matmul_precision(precision)
        compare(
            f"One update, documented setting, float32 matrix precision {precision!r}",
            {
                "floor: its matrix products": matrix_products(config, 32),
                "vanilla": with_adam(vanilla),
                "CLS": with_adam(cls),
                "Hugging Face": with_adam(theirs),
            },
        )

    released, tiny = lesson.RELEASED, lesson.TINY
    models = [lesson.build(lesson.GPT, released, 0) for _ in range(3)]
    settings = ({"fused": True}, {"fused": True}, {"foreach": False})
    adamw = [
        torch.optim.AdamW(m.parameters(), lr=3e-4, **s)
        for m, s in zip(models, settings, strict=True)
    ]
    pair = tiny[:2, :-1], tiny[:2, 1:]

    def plain_loss(model):
        return F.cross_entropy(model(pair[0]).flatten(0, 1), pair[1].flatten())

    plain_loss(models[0]).backward()
    compare(
        "One update, released setting",
        {
            "floor: AdamW alone, fused": adamw[0].step,
            "vanilla": updater(models[1], adamw[1], lambda m: m(*pair)[1]),
            "the optimizer's plain defaults": updater(models[2], adamw[2], plain_loss),
        },
    )
    compare(
        "Evaluation of 2,048 tokens",
        {
            "vanilla": lambda: lesson.evaluate(vanilla, windows),
            "CLS": lambda: lesson.evaluate(cls, windows),
        },
    )
    opening = idx[:1, :1]
    compare(
        "Generation of 63 tokens, greedy, batch 1",
        {
            "vanilla": lambda: lesson.generate(vanilla, opening, 63, temperature=0),
            "Hugging Face with its cache": lambda: theirs.eval().generate(
                opening, max_new_tokens=63, min_new_tokens=63, do_sample=False, pad_token_id=0
            ),
        },
    )


if __name__ == "__main__":
    main()
