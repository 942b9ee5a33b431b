"""The model against other implementations, closed forms and invariants."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from peer import peer
from transformers import GPT2Config, GPT2LMHeadModel

SHAPES = [  # vocab_size, block_size, n_layer, n_head, n_embd
    (97, 12, 2, 4, 32),
    (50, 7, 1, 1, 8),
    (31, 16, 3, 2, 24),
    (211, 5, 4, 8, 64),
]


def both_models(lesson):
    """The models that must be causal: vanilla, and CLS with each readout."""
    yield lesson.GPT, {}
    for readout in ("add", "drop"):
        for own_position in (False, True):
            yield lesson.GPTWithCLS, {"readout": readout, "own_position": own_position}


def peer_of(model):
    """Hugging Face's GPT-2 with the weights of `model`."""
    weights = {}
    for name, p in model.state_dict().items():
        conv1d = name.startswith("h.") and p.dim() == 2  # stored transposed there
        name = name if name.startswith("lm_head") else f"transformer.{name}"
        weights[name] = p.T if conv1d else p
    theirs = peer(model.config)
    theirs.load_state_dict(weights)
    return theirs.eval()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("init", ["gpt2", "pytorch"])
def test_logits_equal_hugging_face(lesson, random_ids, shape, init):
    config = lesson.GPTConfig(*shape, init=init)
    model = lesson.build(lesson.GPT, config, seed=1).eval()
    for length in (1, config.block_size):
        idx = random_ids(3, length, below=config.vocab_size)
        expected = peer_of(model)(idx).logits
        assert torch.allclose(model(idx), expected, atol=1e-5, rtol=1e-5)


def test_attention_weights_equal_the_kernel(lesson):
    for T, D in ((1, 4), (6, 8), (17, 3)):
        q, k, v = torch.randn(3, 2, 4, T, D)
        weights = lesson.attention_weights(q, k)
        expected = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        assert torch.allclose(weights @ v, expected, atol=1e-6)
        assert torch.allclose(weights.sum(-1), torch.ones(2, 4, T))


def test_attention_module_equals_the_kernel(lesson, small):
    attention = lesson.build(lesson.CausalSelfAttention, small, seed=0).eval()
    x = torch.randn(2, 9, 32)
    q, k, v = attention.c_attn(x).view(2, 9, 3, 4, 8).permute(2, 0, 3, 1, 4)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
    assert torch.allclose(attention(x), attention.c_proj(y), atol=1e-6)


def test_block_equals_pytorch(lesson, small):
    block = lesson.build(lesson.Block, small, seed=0).eval()
    for p in block.parameters():  # make the LayerNorms and the biases matter
        nn.init.normal_(p, std=0.3)
    peer = nn.TransformerEncoderLayer(
        32, 4, 128, activation="gelu", batch_first=True, norm_first=True
    ).eval()
    pairs = [
        (peer.self_attn.in_proj_weight, block.attn.c_attn.weight),
        (peer.self_attn.in_proj_bias, block.attn.c_attn.bias),
        *zip(peer.self_attn.out_proj.parameters(), block.attn.c_proj.parameters(), strict=True),
        *zip(peer.linear1.parameters(), block.mlp.c_fc.parameters(), strict=True),
        *zip(peer.linear2.parameters(), block.mlp.c_proj.parameters(), strict=True),
        *zip(peer.norm1.parameters(), block.ln_1.parameters(), strict=True),
        *zip(peer.norm2.parameters(), block.ln_2.parameters(), strict=True),
    ]
    with torch.no_grad():
        for theirs, ours in pairs:
            theirs.copy_(ours)
    x, mask = torch.randn(2, 9, 32), nn.Transformer.generate_square_subsequent_mask(9)
    assert torch.allclose(block(x), peer(x, src_mask=mask, is_causal=True), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_causal_by_perturbation_and_by_gradient(lesson, random_ids, shape):
    config = lesson.GPTConfig(*shape, init="pytorch")
    for model_class, options in both_models(lesson):
        model = lesson.build(model_class, config, seed=0, **options).eval()
        T, V = config.block_size, config.vocab_size
        idx = random_ids(2, T, below=V)
        for t in (0, T // 2, T - 1):
            changed = idx.clone()
            changed[:, t] = (changed[:, t] + 1) % V
            moved = (model(changed) - model(idx)).abs().amax(dim=(0, 2))
            assert (moved[:t] < 1e-5).all() and (moved[t:] > 1e-5).all(), (model_class, options, t)

            embedded = []
            hook = model.wte.register_forward_hook(
                lambda m, a, out, kept=embedded: kept.append(out)
            )
            with torch.enable_grad():
                loss = model(idx)[:, t].square().sum()
            hook.remove()
            (gradient,) = torch.autograd.grad(loss, embedded[0])
            reach = gradient.abs().amax(dim=(0, 2))
            assert (reach[: t + 1] > 0).all() and (reach[t + 1 :] == 0).all()


@pytest.mark.parametrize("own_position", [False, True])
def test_add_readout_adds_the_cls_logits(lesson, small, random_ids, own_position):
    config = replace(small, init="pytorch")
    add, drop = (
        lesson.build(lesson.GPTWithCLS, config, 0, readout=r, own_position=own_position).eval()
        for r in ("add", "drop")
    )
    states = []
    add.ln_f.register_forward_hook(lambda module, args, out: states.append(out))
    idx = random_ids(3, 12)
    summed, dropped = add(idx), drop(idx)
    every = add.lm_head(states[0])
    assert every.shape == (3, 13, 97)
    assert torch.allclose(summed, every[:, 1:] + every[:, :1], atol=1e-5)
    assert torch.allclose(dropped, every[:, 1:], atol=1e-5)
    assert not torch.allclose(summed, dropped, atol=1e-2)


def test_cls_state_is_the_same_for_any_input(lesson, small, random_ids):
    model = lesson.build(lesson.GPTWithCLS, replace(small, init="pytorch"), seed=3).eval()
    states = []
    model.ln_f.register_forward_hook(lambda module, args, out: states.append(out[:, 0]))
    for length in (1, 5, 12):
        model(random_ids(4, length))
    states = torch.cat(states)
    assert states.shape == (12, 32) and states.std(dim=1).min() > 0.1
    assert torch.allclose(states, states[:1].expand_as(states), atol=1e-6)


def test_tokens_keep_their_positions_behind_cls(lesson, small, random_ids):
    """With attention off, a CLS in front changes no token's state: no position has shifted."""
    idx = random_ids(2, 12)
    states = []
    for model_class, options in ((lesson.GPT, {}), (lesson.GPTWithCLS, {"readout": "drop"})):
        model = lesson.build(model_class, small, seed=0, **options).eval()
        for block in model.h:
            nn.init.zeros_(block.attn.c_proj.weight)
        states.append(model.hidden(idx))
    assert torch.allclose(*states, atol=1e-6)


def test_shared_weights_are_equal_and_only_cls_is_new(lesson, small):
    for init in ("gpt2", "pytorch"):
        config = replace(small, init=init)
        vanilla = lesson.build(lesson.GPT, config, seed=5).state_dict()
        for own_position, new in ((False, {"cls"}), (True, {"cls", "cls_position"})):
            cls = lesson.build(lesson.GPTWithCLS, config, 5, own_position=own_position)
            cls = cls.state_dict()
            assert set(cls) - set(vanilla) == new
            assert all(torch.equal(vanilla[name], cls[name]) for name in vanilla)
    other = lesson.build(lesson.GPTWithCLS, config, seed=6)
    assert not torch.equal(other.cls, cls["cls"])
    assert not torch.equal(other.wte.weight, cls["wte.weight"])


def test_drawing_cls_leaves_the_global_generator_alone(lesson, small):
    states = []
    for model_class in (lesson.GPT, lesson.GPTWithCLS):
        lesson.build(model_class, small, seed=0)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_initialisation_is_gpt2s(lesson):
    config = lesson.GPTConfig(500, block_size=64, n_layer=8, n_head=4, n_embd=128)
    for name, p in lesson.build(lesson.GPTWithCLS, config, seed=0).named_parameters():
        if name.endswith("bias"):
            assert (p == 0).all(), name
        elif "ln_" in name:
            assert (p == 1).all(), name
        else:
            expected = 0.02 / 4 if name.endswith("c_proj.weight") else 0.02
            assert abs(p.std().item() / expected - 1) < (0.2 if name == "cls" else 0.05), name


@pytest.mark.parametrize("seed", range(3))
def test_initial_loss_is_near_ln_v(lesson, random_ids, seed):
    config = lesson.GPTConfig()
    idx, targets = random_ids(2, 2, 64, below=config.vocab_size)
    for model_class in (lesson.GPT, lesson.GPTWithCLS):
        loss = lesson.build(model_class, config, seed).eval()(idx, targets)[1].item()
        assert abs(loss / math.log(config.vocab_size) - 1) < 0.05


def test_loss_is_the_cross_entropy_of_the_logits(lesson, small, random_ids):
    """Value and every gradient, on more positions than one chunk of the head holds."""
    idx, targets = random_ids(2, 60, 12)
    gradients = []
    for chunked in (True, False):
        model = lesson.build(lesson.GPTWithCLS, replace(small, init="pytorch"), seed=0).eval()
        logits, loss = model(idx, targets)
        assert logits is None
        if not chunked:
            loss = F.cross_entropy(model(idx).flatten(0, 1), targets.flatten())
        loss.backward()
        gradients.append([loss.detach(), *(p.grad for p in model.parameters())])
    for ours, expected in zip(*gradients, strict=True):
        assert torch.allclose(ours, expected, atol=1e-6, rtol=1e-4)


def test_parameter_counts(lesson):
    released = lesson.GPTConfig(50_257, 16, 2, 4, 128, init="pytorch")
    small_gpt2 = lesson.GPTConfig(50_257, 1024, 12, 12, 768)
    counts = [
        (lesson.GPT, lesson.GPTConfig(), {}, 13_264_640),
        (lesson.GPTWithCLS, lesson.GPTConfig(), {}, 13_264_896),
        (lesson.GPT, released, {}, 13_264_640),
        (lesson.GPTWithCLS, released, {"own_position": True}, 13_264_896),
        (lesson.GPT, small_gpt2, {}, 124_439_808 + 50_257 * 768),
    ]
    for model_class, config, options, expected in counts:
        assert sum(lesson.count(model_class, config, **options).values()) == expected
    tied = sum(p.numel() for p in GPT2LMHeadModel(GPT2Config()).parameters())
    assert tied == 124_439_808


def test_weights_are_not_tied(lesson, small):
    model = lesson.build(lesson.GPT, small, seed=0)
    assert model.lm_head.weight is not model.wte.weight
    assert not torch.equal(model.lm_head.weight, model.wte.weight)


def test_dropout_only_in_training(lesson, small, random_ids):
    idx = random_ids(2, 12)
    for model_class, options in both_models(lesson):
        model = lesson.build(model_class, small, seed=0, **options)
        assert not torch.equal(model(idx), model(idx))
        model.eval()
        assert torch.equal(model(idx), model(idx))
        drops = [m for m in model.modules() if isinstance(m, nn.Dropout)]
        assert len(drops) == 1 + 3 * small.n_layer and all(d.p == 0.1 for d in drops)


def test_every_dropout_is_used(lesson, small, random_ids):
    """With all other dropouts off, each one alone must still make the output vary."""
    idx = random_ids(2, 12)
    model = lesson.build(lesson.GPT, small, seed=0).train()
    drops = {name: m for name, m in model.named_modules() if isinstance(m, nn.Dropout)}
    for kept in drops:
        for name, drop in drops.items():
            drop.p = 0.5 if name == kept else 0.0
        assert not torch.equal(model(idx), model(idx)), kept
