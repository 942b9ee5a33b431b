"""The models against other implementations, closed forms and invariants."""

import math

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from peer import peer_of

CLS_ARMS = ["CLS", "prepended", "read-only", "placebo"]
CLS_ARMS += ["CLS, no gradient", "read-only, no gradient"]
CONSTANT_ARMS = ["constant", "frozen constant", "one-hot constant"]
FROZEN = {"frozen constant", "read-only, frozen"}
NEW = {arm: {"cls", "cls_position"} for arm in CLS_ARMS}  # that vanilla lacks
NEW |= {arm: {"constant"} for arm in (*CONSTANT_ARMS, *FROZEN)}
NEW |= {arm: {"lm_head.bias"} for arm in ("bias", "log-frequency bias")}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("arm", "own"), [("vanilla", 0), ("CLS", 0), ("CLS", 1)])
def test_logits_and_gradients_equal_hugging_face(make, random_ids, arm, own, training):
    """CLS is one token more in front. Under one seed each dropout drops the same."""
    model, idx = make(arm, cls_position=bool(own)), random_ids(3, 16)
    cls = torch.empty(0, 32) if arm == "vanilla" else model.cls[None].detach()
    theirs = peer_of(model, cls, model.cls_position[None].detach() if own else 0 * cls)
    torch.manual_seed(0)
    logits = model.train(training)(idx)
    torch.manual_seed(0)
    expected = theirs.train(training)(F.pad(idx, (len(cls), 0), value=97)).logits
    expected = expected[:, 1:] + expected[:, :1] if arm == "CLS" else expected
    assert torch.allclose(logits, expected[..., :97], atol=1e-5)
    logits.square().mean().backward()
    expected[..., :97].square().mean().backward()
    for name, p in model.h.named_parameters():
        q = theirs.get_parameter(f"transformer.h.{name}").grad
        assert torch.allclose(p.grad, q.T if p.dim() == 2 else q, atol=1e-5), name


def test_attention_and_block_equal_pytorch(lesson, small):
    """Also where nobody may attend to the first position but itself."""
    block = lesson.Block(small).eval()
    for p in block.parameters():  # make the LayerNorms and the biases matter
        nn.init.normal_(p, std=0.3)
    options = {"activation": "gelu", "batch_first": True, "norm_first": True}
    theirs = nn.TransformerEncoderLayer(32, 4, 128, **options).eval()
    names = {"ln_": "norm", "attn.c_attn.": "self_attn.in_proj_", "mlp.c_fc": "linear1"}
    names |= {"mlp.c_proj": "linear2", "attn.c_proj": "self_attn.out_proj"}
    state = block.state_dict()
    for old, new in names.items():
        state = {name.replace(old, new): p for name, p in state.items()}
    theirs.load_state_dict(state)
    x = torch.randn(2, 9, 32)
    causal, closed = torch.ones(2, 9, 9, dtype=torch.bool).tril()
    closed[1:, 0] = False
    for mask in (causal, closed):
        block.attn.mask = mask
        assert torch.allclose(block(x), theirs(x, ~mask), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("arm", ["vanilla", *CLS_ARMS[:3], "constant"])
def test_causal_by_perturbation_and_by_gradient(make, random_ids, arm):
    model, idx, kept = make(arm).eval(), random_ids(2, 16), []
    model.wte.register_forward_hook(lambda module, args, x: kept.append(x))
    for t in (0, 6, 15):
        changed = idx.clone()
        changed[:, t] = (changed[:, t] + 1) % 97
        moved = (model(changed) - model(idx)).abs().amax(dim=(0, 2))
        assert (moved[:t] < 1e-5).all() and (moved[t:] > 1e-5).all(), t
        loss = model(idx)[:, t].square().sum()
        reach = torch.autograd.grad(loss, kept[-1])[0].abs().amax(dim=(0, 2))
        assert (reach[: t + 1] > 0).all() and (reach[t + 1 :] == 0).all(), t


def test_two_by_two(make, random_ids):
    """Seen or not, added or not: each cell is vanilla but for what its name says."""
    idx, vanilla = random_ids(3, 16), make("vanilla").eval()
    models = [make(arm).eval() for arm in CLS_ARMS]
    states = torch.cat([models[2].states(idx[:, :n])[:, 0] for n in (1, 5, 16)])
    assert states.std(dim=1).min() > 0.1  # the CLS state, the same for any input
    assert torch.allclose(states, states[:1].expand_as(states), atol=1e-6)
    cls = vanilla.lm_head(states[0])
    both, seen, read, placebo, detached, read_detached = (m(idx) for m in models)
    assert torch.allclose(placebo, vanilla(idx), atol=1e-5)
    assert torch.allclose(read, vanilla(idx) + cls, atol=1e-5)
    assert torch.allclose(both, seen + cls, atol=1e-5)
    assert (seen - vanilla(idx)).std() > 0.01
    assert torch.equal(detached, both) and torch.equal(read_detached, read)
    assert torch.allclose(make("read-only, frozen").eval()(idx), read, atol=1e-5)


@pytest.mark.parametrize("arm", ["CLS", "read-only"])
def test_a_detached_state_is_a_constant_to_the_blocks(lesson, make, data, arm):
    """All gradients are those of a model to whose states a fixed vector is added."""
    model, whole = (make(name).eval() for name in (f"{arm}, no gradient", arm))
    fixed = make("prepended" if arm == "CLS" else "placebo").eval()
    constant = model.states(data[:1, :-1])[:, 0].detach()
    fixed.ln_f.register_forward_hook(lambda module, args, x: x + constant)
    for each in (model, whole, fixed):
        lesson.loss_on(each, data).backward()
    for name, p in model.named_parameters():
        assert torch.allclose(p.grad, fixed.get_parameter(name).grad, atol=1e-6), name
    assert not torch.allclose(model.ln_f.weight.grad, whole.ln_f.weight.grad, atol=1e-3)
    assert model.cls.grad.any() == (arm == "CLS")  # unseen, it never moves


def test_constants_are_added_to_every_state(make, random_ids):
    """All the same vector, that of CLS; or one as long with a single element."""
    idx, drawn, vanilla = random_ids(3, 16), make("CLS").cls, make("vanilla").eval()
    for arm in (*CONSTANT_ARMS, "ln_f bias"):
        model = make(arm).eval()
        constant = model.ln_f.bias if arm == "ln_f bias" else model.constant
        expected = vanilla.lm_head(vanilla.hidden(idx) + constant)
        assert torch.allclose(model(idx), expected, atol=1e-5), arm
        assert torch.allclose(constant.norm(), drawn.norm()), arm
        sparse = (constant != 0).sum() == 1
        assert sparse if "one-hot" in arm else torch.equal(constant, drawn), arm


@pytest.mark.parametrize("init", ["gpt2", "pytorch"])
def test_arms_differ_from_vanilla_in_what_they_say(lesson, make, init):
    """Under one seed all shared weights are equal; under another none of the drawn."""
    vanilla = make("vanilla", 5, init=init).state_dict()
    assert set(lesson.ARMS) == {"vanilla", "ln_f bias", *NEW}
    for arm in lesson.ARMS:
        model, other = (make(arm, seed, init=init) for seed in (5, 6))
        weights, new = model.state_dict(), NEW.get(arm, set())
        assert set(weights) == set(vanilla) | new, arm
        changed = {n for n, p in vanilla.items() if not torch.equal(p, weights[n])}
        assert changed == ({"ln_f.bias"} if arm == "ln_f bias" else set()), arm
        for name in (new | changed | {"wte.weight"}) - {"lm_head.bias"}:
            assert not torch.equal(weights[name], other.state_dict()[name]), (arm, name)
        frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
        assert frozen == ({"constant"} if arm in FROZEN else set())


def test_first_weights(lesson):
    """GPT-2's; and PyTorch's: vectors N(0, 1), matrices within 1/sqrt(inputs)."""
    config = lesson.GPTConfig(500, 64, 8, 4, 128, cls_position=True)
    torch.manual_seed(0)
    for name, p in lesson.GPTWithCLS(config).named_parameters():
        if p.dim() == 1 and "cls" not in name:
            assert (p == ("ln_" in name and "weight" in name)).all(), name
        else:
            std = 0.02 / 4 if name.endswith("c_proj.weight") else 0.02
            assert p.std().item() == pytest.approx(std, rel=3 / p.numel() ** 0.5), name
    model = lesson.GPTWithCLS(lesson.replace(config, init="pytorch"))
    for p in (model.wte.weight, model.wpe.weight, model.cls, model.cls_position):
        assert p.std().item() == pytest.approx(1, rel=3 / p.numel() ** 0.5)
    for layer in (m for m in model.modules() if isinstance(m, nn.Linear)):
        bound = layer.weight.abs().max().item() * math.sqrt(layer.in_features)
        assert bound == pytest.approx(1, rel=0.01)


def test_parameter_counts(lesson):
    for config in (lesson.DOCUMENTED, lesson.RELEASED):
        with torch.device("meta"):
            models = lesson.GPT(config), lesson.GPTWithCLS(config)
        counts = [sum(p.numel() for p in model.parameters()) for model in models]
        assert counts == [13_264_640, 13_264_640 + 256]
