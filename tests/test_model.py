"""The models against other implementations, closed forms and invariants."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from peer import peer
from transformers import GPT2Config, GPT2LMHeadModel

SHAPES = [  # vocab_size, block_size, n_layer, n_head, n_embd
    (97, 12, 2, 4, 32),
    (50, 7, 1, 1, 8),
    (211, 5, 4, 8, 64),
]
CONSTANT_ARMS = ("constant", "frozen constant", "one-hot constant")
CLS_ARMS = ("CLS", "prepended", "read-only", "placebo")
NEW = {  # what an arm has that vanilla lacks
    **{arm: {"cls", "cls_position"} for arm in CLS_ARMS},
    **{arm: {"constant"} for arm in CONSTANT_ARMS},
    **{arm: {"lm_head.bias"} for arm in ("bias", "scaled bias", "log-frequency bias")},
}


@pytest.fixture
def make(lesson, small):
    """Return a function that builds an arm, of weights large enough to matter."""
    data = torch.randint(97, (8, 13), generator=torch.Generator().manual_seed(1))

    def make(arm, seed=0, **changes):
        config = replace(small, **({"init": "pytorch", "cls_position": True} | changes))
        return lesson.build(lesson.ARMS[arm], config, data, seed)

    return make


def peer_of(model, **extended):
    """Hugging Face's GPT-2 with the weights of `model`, some of them replaced."""
    theirs, names = {}, peer(model.config).state_dict()
    for name, p in (model.state_dict() | extended).items():
        conv1d = name.startswith("h.") and p.dim() == 2  # stored transposed there
        theirs[name if "lm_head" in name else f"transformer.{name}"] = (
            p.T if conv1d else p
        )
    theirs = {name: p for name, p in theirs.items() if name in names}
    sizes = {"vocab_size": len(theirs["transformer.wte.weight"])}
    sizes["block_size"] = len(theirs["transformer.wpe.weight"])
    other = peer(replace(model.config, **sizes))
    other.lm_head = nn.Linear(
        model.config.n_embd, len(theirs["lm_head.weight"]), bias=False
    )
    other.load_state_dict(theirs)
    return other.eval()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("init", ["gpt2", "pytorch"])
def test_logits_and_gradients_equal_hugging_face(lesson, random_ids, shape, init):
    config = lesson.GPTConfig(*shape, init=init)
    torch.manual_seed(1)
    model = lesson.GPT(config).eval()
    theirs = peer_of(model)
    for length in (1, config.block_size):
        idx = random_ids(3, length, below=config.vocab_size)
        assert torch.allclose(model(idx), theirs(idx).logits, atol=1e-5, rtol=1e-5)
    model(idx).square().mean().backward()
    theirs(idx).logits.square().mean().backward()
    for name, p in model.named_parameters():
        q = theirs.get_parameter(name if "lm_head" in name else f"transformer.{name}")
        expected = q.grad.T if name.startswith("h.") and p.dim() == 2 else q.grad
        assert torch.allclose(p.grad, expected, atol=1e-5, rtol=1e-3), name


@pytest.mark.parametrize(("T", "D"), [(1, 4), (6, 8), (17, 3)])
def test_attention_weights_equal_the_kernel(lesson, T, D):
    q, k, v = torch.randn(3, 2, 4, T, D)
    causal, closed = torch.ones(2, T, T, dtype=torch.bool).tril()
    closed[1:, 0] = False  # nobody but itself may attend to the first
    for mask in (causal, closed):
        weights = lesson.attention_weights(q, k, mask)
        expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        assert torch.allclose(weights @ v, expected, atol=1e-6)
        assert torch.allclose(weights.sum(-1), torch.ones(2, 4, T))
        assert (weights[..., ~mask] == 0).all()


def test_block_equals_pytorch(lesson, small):
    """Also with the first column hidden; so do the attention weights it keeps."""
    block = lesson.Block(small).eval()
    for p in block.parameters():  # make the LayerNorms and the biases matter
        nn.init.normal_(p, std=0.3)
    theirs = nn.TransformerEncoderLayer(
        32, 4, 128, activation="gelu", batch_first=True, norm_first=True
    ).eval()
    names = {"ln_": "norm", "attn.c_attn.": "self_attn.in_proj_", "mlp.c_fc": "linear1"}
    names |= {"mlp.c_proj": "linear2", "attn.c_proj": "self_attn.out_proj"}
    state = block.state_dict()
    for old, new in names.items():
        state = {name.replace(old, new): p for name, p in state.items()}
    theirs.load_state_dict(state)
    x, forbidden = torch.randn(2, 9, 32), torch.ones(9, 9, dtype=torch.bool).triu(1)
    for hidden in (False, True):
        block.attn.mask[1:, 0] = not hidden
        forbidden[1:, 0] = hidden
        assert torch.allclose(block(x), theirs(x, forbidden), atol=1e-5, rtol=1e-5)
        normed, options = theirs.norm1(x), {"average_attn_weights": False}
        _, weights = theirs.self_attn(
            normed, normed, normed, attn_mask=forbidden, **options
        )
        assert torch.allclose(block.attn.weights, weights, atol=1e-6)


@pytest.mark.parametrize(
    "arm", ["vanilla", "CLS", "prepended", "read-only", "constant"]
)
def test_causal_by_perturbation_and_by_gradient(make, random_ids, arm):
    model, idx = make(arm).eval(), random_ids(2, 12)
    for t in (0, 6, 11):
        changed = idx.clone()
        changed[:, t] = (changed[:, t] + 1) % 97
        moved = (model(changed) - model(idx)).abs().amax(dim=(0, 2))
        assert (moved[:t] < 1e-5).all() and (moved[t:] > 1e-5).all(), t
        embedded = []
        hook = model.wte.register_forward_hook(
            lambda m, a, out, to=embedded: to.append(out)
        )
        loss = model(idx)[:, t].square().sum()
        hook.remove()
        (gradient,) = torch.autograd.grad(loss, embedded[0])
        reach = gradient.abs().amax(dim=(0, 2))
        assert (reach[: t + 1] > 0).all() and (reach[t + 1 :] == 0).all()


@pytest.mark.parametrize("own_position", [False, True])
def test_cls_equals_hugging_face_with_one_more_token(make, random_ids, own_position):
    """A token of its own id and position in front; its logits are added, or dropped."""
    idx = random_ids(3, 12)
    for arm in ("CLS", "prepended"):
        model = make(arm, cls_position=own_position).eval()
        first = model.cls_position if own_position else torch.zeros_like(model.cls)
        theirs = peer_of(
            model,
            **{
                "wte.weight": torch.cat([model.wte.weight, model.cls[None]]).detach(),
                "wpe.weight": torch.cat([first[None], model.wpe.weight]).detach(),
            },
        )
        logits = theirs(F.pad(idx, (1, 0), value=97)).logits
        expected = logits[:, 1:] + (logits[:, :1] if arm == "CLS" else 0)
        assert torch.allclose(model(idx), expected, atol=1e-4, rtol=1e-4), arm


def test_two_by_two(make, random_ids):
    """Seen or not, added or not: each cell is vanilla but for what its name says."""
    idx = random_ids(3, 12)
    vanilla, seen, read, both, placebo = (
        make(arm).eval()
        for arm in ("vanilla", "prepended", "read-only", "CLS", "placebo")
    )
    cls = read.lm_head(read.states(idx)[:, :1])
    assert cls.std() > 0.1
    assert torch.allclose(placebo(idx), vanilla(idx), atol=1e-5)
    assert torch.allclose(read(idx), vanilla(idx) + cls, atol=1e-5)
    assert torch.allclose(both(idx), seen(idx) + cls, atol=1e-5)
    assert (seen(idx) - vanilla(idx)).std() > 0.01


def test_cls_state_is_the_same_for_any_input(make, random_ids):
    model = make("CLS", seed=3).eval()
    states = torch.cat([model.states(random_ids(4, n))[:, 0] for n in (1, 5, 12)])
    assert states.shape == (12, 32) and states.std(dim=1).min() > 0.1
    assert torch.allclose(states, states[:1].expand_as(states), atol=1e-6)


def test_constants_are_added_to_every_state(make, random_ids):
    """All the same vector, that of CLS; or one as long with a single element."""
    idx, drawn, vanilla = random_ids(3, 12), make("CLS").cls, make("vanilla").eval()
    for arm in (*CONSTANT_ARMS, "ln_f bias"):
        model = make(arm).eval()
        constant = model.ln_f.bias if arm == "ln_f bias" else model.constant
        expected = vanilla(idx) + constant @ vanilla.lm_head.weight.T
        assert torch.allclose(model(idx), expected, atol=1e-5), arm
        if arm == "one-hot constant":
            assert torch.allclose(constant.norm(), drawn.norm())
            assert (constant != 0).sum() == 1
        else:
            assert torch.equal(constant, drawn)


@pytest.mark.parametrize("init", ["gpt2", "pytorch"])
def test_arms_differ_from_vanilla_in_what_they_say(lesson, make, init):
    """Under one seed all shared weights are equal; under another none of the drawn."""
    vanilla, other = (make("vanilla", s, init=init).state_dict() for s in (5, 6))
    assert not torch.equal(vanilla["wte.weight"], other["wte.weight"])
    for arm in lesson.ARMS:
        model, other = (make(arm, seed, init=init) for seed in (5, 6))
        weights = model.state_dict()
        new = set(weights) - set(vanilla)
        changed = {"ln_f.bias"} if arm == "ln_f bias" else set()
        assert new == NEW.get(arm, set()) and set(vanilla) <= set(weights), arm
        differ = {n for n in vanilla if not torch.equal(vanilla[n], weights[n])}
        assert differ == changed, arm
        for name in (new | changed) - {"lm_head.bias"}:
            assert not torch.equal(weights[name], other.state_dict()[name]), (arm, name)
        frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
        assert frozen == ({"constant"} if arm == "frozen constant" else set())


def test_initialisation(lesson):
    """GPT-2's; and PyTorch's: vectors N(0, 1), matrices within 1/sqrt(inputs)."""
    config = lesson.GPTConfig(500, 64, 8, 4, 128, cls_position=True)
    torch.manual_seed(0)
    for name, p in lesson.GPTWithCLS(config).named_parameters():
        if name.endswith("bias") or "ln_" in name:
            assert (p == (not name.endswith("bias"))).all(), name
        else:
            expected = 0.02 / 4 if name.endswith("c_proj.weight") else 0.02
            few = "cls" in name
            assert p.std().item() == pytest.approx(expected, rel=0.25 if few else 0.05)
    model = lesson.GPTWithCLS(replace(config, init="pytorch"))
    for p in (model.wte.weight, model.wpe.weight, model.cls, model.cls_position):
        assert p.std().item() == pytest.approx(1, rel=0.25)
    for layer in (m for m in model.modules() if isinstance(m, nn.Linear)):
        bound = 1 / math.sqrt(layer.in_features)
        assert layer.weight.abs().max().item() == pytest.approx(bound, rel=0.01)


@pytest.mark.parametrize(("init", "arm", "excess"), [
    ("gpt2", "vanilla", 0.02**2 * 128 / 2),
    ("pytorch", "vanilla", 1 / 6),
    ("pytorch", "CLS", 1 / 3),
    ("pytorch", "constant", 1 / 3),
])  # fmt: skip
def test_loss_at_birth_is_the_closed_form(lesson, random_ids, init, arm, excess):
    """ln V plus half the variance of the logits, of C products each."""
    config = replace(lesson.RELEASED, vocab_size=5000, init=init)
    data = random_ids(64, 17)
    losses = [
        lesson.evaluate(lesson.build(lesson.ARMS[arm], config, data, seed), data)
        for seed in range(3)
    ]
    assert np.mean(losses) - math.log(5000) == pytest.approx(excess, abs=0.06)


def test_parameter_counts(lesson):
    gpt2 = lesson.GPTConfig(50_257, 1024, 12, 12, 768)
    tied = sum(p.numel() for p in GPT2LMHeadModel(GPT2Config()).parameters())
    assert tied == 124_439_808
    for model_class, config, expected in (
        (lesson.GPT, lesson.GPTConfig(), 13_264_640),
        (lesson.GPTWithCLS, lesson.GPTConfig(), 13_264_896),
        (lesson.GPT, lesson.RELEASED, 13_264_640),
        (lesson.GPTWithCLS, lesson.RELEASED, 13_264_896),
        (lesson.GPT, gpt2, tied + 50_257 * 768),
    ):
        with torch.device("meta"):
            model = model_class(config)
        assert sum(p.numel() for p in model.parameters()) == expected
        assert model.lm_head.weight is not model.wte.weight


@pytest.mark.parametrize("arm", ["vanilla", *NEW])
def test_every_dropout_is_used_and_only_in_training(make, random_ids, arm):
    """With all other dropouts off, each one alone still makes the output vary."""
    model, idx = make(arm), random_ids(2, 12)
    drops = {name: m for name, m in model.named_modules() if isinstance(m, nn.Dropout)}
    assert len(drops) == 1 + 3 * 2 and all(drop.p == 0.1 for drop in drops.values())
    for kept in drops:
        for name, drop in drops.items():
            drop.p = 0.5 if name == kept else 0.0
        model.train()
        assert not torch.equal(model(idx), model(idx)), kept
        model.eval()
        assert torch.equal(model(idx), model(idx))


@pytest.mark.parametrize(
    "name", ["vocab_size", "block_size", "n_layer", "n_head", "n_embd"]
)
@pytest.mark.parametrize("value", [0, -4, 4.0, "4", True, None, math.nan])
def test_sizes_are_whole_numbers_above_zero(lesson, name, value):
    with pytest.raises(ValueError, match=f"{name}={value!r}: expected a whole number"):
        lesson.GPTConfig(**{name: value})


@pytest.mark.parametrize(("changes", "words"), [
    ({"n_embd": 30}, ["n_embd=30", "multiple of n_head=8"]),
    ({"dropout": 1.0}, ["dropout=1.0", "from 0 to below 1"]),
    ({"dropout": "0.1"}, ["dropout='0.1'"]),
    ({"dropout": math.nan}, ["dropout=nan"]),
    ({"init": "gpt-2"}, ["init='gpt-2'", "'gpt2' or 'pytorch'"]),
])  # fmt: skip
def test_other_bad_configs(lesson, changes, words):
    with pytest.raises(ValueError) as caught:
        lesson.GPTConfig(**changes)
    assert all(word in str(caught.value) for word in words)


def test_numpys_numbers_are_numbers_and_too_many_tokens_are_refused(lesson):
    sizes = {"n_embd": np.int64(64), "n_head": np.int32(4), "dropout": np.float32(0.5)}
    for model_class in (lesson.GPT, lesson.GPTWithCLS):
        model = model_class(lesson.GPTConfig(9, 12, **sizes))
        assert model(torch.zeros(1, 12, dtype=torch.long)).shape == (1, 12, 9)
        with pytest.raises(ValueError, match="13 tokens, block_size is 12"):
            model(torch.zeros(1, 13, dtype=torch.long))
