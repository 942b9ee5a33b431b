"""Other implementations: Hugging Face's GPT-2, SciPy's intervals, Adam and counting by hand."""

import math

import torch
from scipy import stats
from transformers import GPT2Config, GPT2LMHeadModel


def peer(config, more=0):
    """GPT-2 of the same shape, untied, with the exact GELU; `more` tokens and positions."""
    sizes = {name: getattr(config, name) for name in ("n_embd", "n_layer", "n_head")}
    sizes["vocab_size"] = config.vocab_size + more
    sizes["n_positions"] = config.block_size + more
    options = {"activation_function": "gelu", "tie_word_embeddings": False}
    return GPT2LMHeadModel(GPT2Config(**sizes, **options))


def peer_of(model, front, places):
    """A peer with a model's weights, and k tokens more, of vectors `front` (k, C).

    Their ids are the last k, their logits zero; `places` are the first k positions.
    """
    state = model.state_dict()
    state["wte.weight"] = torch.cat([state["wte.weight"], front])
    state["wpe.weight"] = torch.cat([places, state["wpe.weight"]])
    state["lm_head.weight"] = torch.cat([state["lm_head.weight"], 0 * front])
    theirs = peer(model.config, len(front)).eval()
    for name, p in theirs.state_dict().items():
        mine = state[name.removeprefix("transformer.")].detach()
        p.copy_(mine.T if ".h." in name and p.dim() == 2 else mine)
    return theirs


def adam_by_hand(model, batches, rates, betas=(0.9, 0.999), decay=0.0, clip=math.inf):
    """Train a model without dropout; return the gradients' norms in both its blocks."""
    moments, norms, named = {}, [], dict(model.named_parameters())
    for t, (batch, rate) in enumerate(zip(batches, rates, strict=True), start=1):
        logp = model(batch[:, :-1]).log_softmax(-1)
        loss = -logp.gather(2, batch[:, 1:, None]).mean()
        found = dict(zip(named, torch.autograd.grad(loss, named.values()), strict=True))
        square = {name: g.square().sum().item() for name, g in found.items()}
        ends = [[s for n, s in square.items() if end in n] for end in ("h.0.", "h.1.")]
        norms.append([math.sqrt(sum(end)) for end in ends])
        for name, g in found.items():
            g = g * min(1, clip / math.sqrt(sum(square.values())))
            m, v = moments.get(name, (0, 0))
            m = betas[0] * m + (1 - betas[0]) * g
            v = betas[1] * v + (1 - betas[1]) * g**2
            moments[name] = m, v
            step = m / (1 - betas[0] ** t) / ((v / (1 - betas[1] ** t)).sqrt() + 1e-8)
            p = named[name].data
            p -= rate * (step + decay * (p.dim() == 2) * p)
    return norms


def counted(texts, past, last, V):
    """p(last | past), lists of ids, by searching the texts (Witten and Bell 1991)."""
    places = [(text, i) for text in texts for i in range(len(past), len(text))]
    after = [text[i] for text, i in places if text[i - len(past) : i] == past]
    if not past:
        return (after.count(last) + 1) / (len(after) + V)
    shorter, kinds = counted(texts, past[1:], last, V), len(set(after))
    share = (after.count(last) + kinds * shorter, len(after) + kinds)
    return share[0] / share[1] if after else shorter


def by_scipy(gaps, level=0.995):
    """Mean of differences and half the width of its interval."""
    low, high = stats.ttest_1samp(gaps, 0).confidence_interval(level)
    return (low + high) / 2, (high - low) / 2
