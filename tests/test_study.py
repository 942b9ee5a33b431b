"""The study: its texts, measures, experiments, claims and verdicts; the record."""

import functools
import hashlib
import itertools
import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats


@pytest.fixture
def sentences(lesson, tiny):
    return lesson.ten_sentences(tiny, 0)[0]


@pytest.fixture
def make(lesson, tiny, sentences):
    return lambda arm, seed=0: lesson.build(lesson.ARMS[arm], tiny, sentences, seed)


def made_up(experiment, seeds, shift=0.0, draw=lambda: np.zeros(21)):
    """A record of runs whose numbers are drawn; those of CLS are shifted."""
    record = {}
    for arm, seed in itertools.product(
        ("vanilla", "CLS", "constant", "placebo"), seeds
    ):
        x = draw() + shift * (arm == "CLS")
        run = {"epoch": x[:5].tolist(), "held_out": x[5:11].tolist(), "spread": 1e-7}
        run["gradient"] = x[11:21].reshape(5, 2).tolist()
        if arm == "CLS":
            run["column hidden"] = run["held_out"][-1] + draw()[0] - draw()[0]
        record[experiment, arm, seed] = run
    return record


def by_scipy(gaps, level):
    """Mean of differences and half the width of its interval."""
    low, high = stats.ttest_1samp(gaps, 0).confidence_interval(level)
    return (low + high) / 2, (high - low) / 2


def claim_of(lesson, name):
    return next(claim for claim in lesson.CLAIMS if claim.name == name)


# Texts


def test_ten_sentences_have_the_released_statistics(lesson, tiny):
    """One stream of 64 tokens, cut into all its 48 windows; another under each seed."""
    streams = []
    for seed in (100, 101, 100):
        rows, held_out = lesson.ten_sentences(tiny, seed)
        assert rows.shape == (48, 17) and torch.equal(rows, held_out)
        ids = torch.cat([rows[0], rows[1:, -1]])
        assert torch.equal(ids.unfold(0, 17, 1), rows)
        counts = Counter(ids.tolist())
        assert len(ids) == 64 and len(counts) == 50 and max(counts) < 61
        assert counts[int(ids[-1])] == 10  # the end marks, which stay where they are
        ends = (ids == ids[-1]).nonzero().flatten().tolist()
        streams.append((ids.tolist(), ends, sorted(counts.values())))
    assert streams[0] == streams[2] and streams[0][0] != streams[1][0]
    assert streams[0][1:] == streams[1][1:]
    order = [[ids.index(i) for i in ids] for ids, _, _ in streams]
    assert order[0] != order[1]  # not only other ids


def test_the_settings_make_as_many_updates_as_published(lesson):
    """24 an epoch; and one pass over all plays is one pass."""
    for name in ("ten sentences", "documented"):
        setting = lesson.EXPERIMENTS[name]
        data, _ = setting.data(setting.config, 100)
        assert len(lesson.batches(data, setting.recipe, torch.Generator())) == 24
        assert setting.recipe.epochs == 5
    setting = lesson.EXPERIMENTS["all plays"]
    seen = setting.recipe.epochs * setting.recipe.updates * setting.recipe.batch_size
    assert seen == pytest.approx(len(setting.data(setting.config, 100)[0]), rel=0.05)


def test_bytes_are_those_of_the_plays(lesson):
    """In order, end to end, none of a held-out play in training."""
    plays, config = lesson.PLAYS, lesson.GPTConfig(256, 16, 1, 1, 8)
    train, held_out = lesson.plays_as_bytes(config, 0)
    some, again = lesson.some_bytes(config, 0)
    assert held_out.shape == (600, 17) and torch.equal(held_out, again)
    texts = {n: b"".join(plays.vocab[i] for i in ids) for n, ids in plays.texts.items()}
    unseen = [texts[name] for name in plays.held_out]
    assert len(unseen) == 6 and bytes(held_out[0].tolist()) == unseen[0][:17]
    for row in held_out:
        assert any(bytes(row.tolist()) in text for text in unseen)
    first = next(name for name in plays.texts if name not in plays.held_out)
    assert bytes(train[:3, :-1].flatten().tolist()) == texts[first][:48]
    total = sum((len(texts[n]) - 1) // 16 for n in texts if n not in plays.held_out)
    assert len(train) == total and len(some) == 150_000 // 16
    assert torch.equal(some[0], train[0]) and torch.equal(some[-1], train[-1])
    second = lesson.hamlet(lesson.GPTConfig(), 0)[1][1, :-1]
    assert torch.equal(second, plays.texts["Macbeth"][128:192])
    assert "Macbeth" in plays.held_out and "Hamlet" not in plays.held_out


# Arms


def test_log_frequencies(make, sentences):
    bias = make("log-frequency bias").lm_head.bias.exp()
    targets = sentences[:, 1:].flatten()
    counts = torch.tensor([(targets == v).sum() for v in range(61)])
    assert torch.allclose(bias, (counts + 1 / 61) / (len(targets) + 1), rtol=1e-4)


def test_a_scaled_bias_equals_a_bias_of_larger_steps(lesson):
    """logits + s b, whose gradient is s times that of the logits."""
    x, weight, bias = torch.randn(4, 8), torch.randn(5, 8), torch.randn(5)
    head = lesson.HeadWithBias(torch.nn.Parameter(weight), bias, scale=3.0)
    assert torch.allclose(head(x), x @ weight.T + 3 * bias, atol=1e-5)
    head(x)[:, 2].sum().backward()
    assert torch.allclose(head.bias.grad, torch.tensor([0.0, 0, 12, 0, 0]))


@pytest.mark.parametrize("seed", [0, 1])
def test_first_steps(lesson, seed):
    """What one update of Adam adds to the fall of the logits that never occur.

    A bias falls by the learning rate. `constant`, `ln_f bias` and the scaled bias fall
    alike: by the rate times the sum of |state|. The one-hot constant, although as long,
    adds its length times the rate: a fraction of it.
    """
    rate, V = 3e-4, 2000
    config = replace(lesson.RELEASED, vocab_size=V)
    data, _ = lesson.ten_sentences(config, seed)
    never = torch.ones(V, dtype=torch.bool)
    never[data.unique()] = False
    recipe = lesson.Recipe(1, 2, rate, "AdamW", updates=1)
    fall, others = {}, ["bias", "constant", "ln_f bias", "scaled bias"]
    for arm in ["vanilla", *others, "one-hot constant"]:
        model, means = lesson.build(lesson.ARMS[arm], config, data, seed), []
        for train in (True, False):
            with torch.no_grad():
                means.append(model.eval()(data[:, :-1])[:, :, never].mean().item())
            if train:
                lesson.train(model, recipe, data, data[:2], seed)
        fall[arm] = means[0] - means[1] - (fall["vanilla"] if fall else 0.0)
    assert fall["bias"] == pytest.approx(rate, rel=0.02)
    assert fall["ln_f bias"] == pytest.approx(fall["constant"], rel=0.01)
    assert fall["scaled bias"] == pytest.approx(fall["constant"], rel=0.06)
    assert fall["constant"] > 50 * rate
    length = torch.linalg.vector_norm(model.constant).item()
    assert fall["one-hot constant"] == pytest.approx(rate * length, rel=0.15)


# Measures


@pytest.mark.parametrize("arm", ["vanilla", "CLS", "log-frequency bias"])
def test_the_split_is_that_of_probabilities(lesson, make, sentences, arm):
    model = make(arm)
    found = lesson.split_loss(model, sentences, sentences)
    p = model.eval()(sentences[:, :-1]).double().softmax(-1)
    share = p[..., sentences.unique()].sum(-1)
    right = p.gather(2, sentences[:, 1:, None])[..., 0] / share
    expected = [-share.log().mean().item(), -right.log().mean().item()]
    assert [found["occurs"], found["which"]] == pytest.approx(expected, abs=1e-5)
    loss = lesson.evaluate(model, sentences)
    assert sum(found.values()) == pytest.approx(loss, abs=1e-5)


@pytest.mark.parametrize("arm", ["vanilla", "CLS", "read-only"])
def test_attention_to_front_by_brute_force(lesson, make, sentences, arm):
    model = make(arm)
    found = lesson.attention_to_front(model, sentences, sentences)["attention"]
    T = 16 + (arm != "vanilla")
    for layer, head in itertools.product(range(2), range(2)):
        weights = model.h[layer].attn.weights[:, head].tolist()
        for column, queries in ((0, range(T)), (1, range(1, T))):
            spots = [row[t][column] for row in weights for t in queries]
            assert len(weights) == 32
            assert found[column][layer][head] == pytest.approx(np.mean(spots))


def test_without_cls_measures_the_other_arms_and_leaves_no_trace(
    lesson, make, sentences
):
    arms = {"CLS": {"readout dropped", "column hidden"}, "placebo": set()}
    arms |= {"prepended": {"column hidden"}, "read-only": {"readout dropped"}}
    losses = {arm: lesson.evaluate(make(arm), sentences) for arm in arms}
    for arm, parts in arms.items():
        model = make(arm)
        found = lesson.without_cls(model, sentences, sentences)
        assert set(found) == parts | {"spread"} and found["spread"] < 1e-5
        assert lesson.evaluate(model, sentences) == losses[arm]
        other = {"readout dropped": "prepended", "column hidden": "read-only"}
        for part in parts if arm == "CLS" else ():
            assert found[part] == pytest.approx(losses[other[part]], abs=1e-5)
    assert lesson.without_cls(make("constant"), sentences, sentences) == {}
    model = make("placebo")
    model.states = lambda idx: model.wte(idx)  # one that changes with the input
    assert lesson.without_cls(model, sentences, sentences)["spread"] > 0.1


PLAY = torch.arange(6).repeat_interleave(200)
PLACE = torch.arange(1200) % 200


def test_probe_on_known_signals(lesson):
    signal = torch.nn.functional.one_hot(PLAY).float()
    noise = torch.randn(1200, 20, generator=torch.Generator().manual_seed(0))
    assert lesson.probe(torch.cat([signal, 0.1 * noise], dim=1), PLAY) == 1
    signal[PLAY == 5] = signal[PLAY == 0]  # one of the two is lost
    assert lesson.probe(signal, PLAY) == pytest.approx(5 / 6)
    for constant in (torch.ones(1200, 32), 7 + 1e-5 * torch.randn(1200, 32)):
        assert lesson.probe(constant, PLAY) == pytest.approx(1 / 6, abs=1e-9)


def test_probe_learns_nothing_from_what_it_is_scored_on(lesson):
    signal = torch.nn.functional.one_hot(PLAY).float()
    other = torch.where(PLACE >= 160, (PLAY + 1) % 6, PLAY)
    assert lesson.probe(signal, other) == 0  # it learned the old labels
    between = torch.where((PLACE >= 120) & (PLACE < 160), (PLAY + 1) % 6, PLAY)
    assert lesson.probe(signal, between) == 1  # a gap of 40 windows is not used
    noise = torch.randn(1200, 600, generator=torch.Generator().manual_seed(0))
    assert lesson.probe(noise, PLAY) < 1 / 6 + 4 * math.sqrt(5 / 36 / 240)


@pytest.mark.parametrize("arm", ["vanilla", "CLS"])
def test_representation(lesson, monkeypatch, arm):
    """Of the states of each held-out play's first 200 windows, in order."""
    config = lesson.GPTConfig(256, 16, 1, 2, 16, init="pytorch")
    torch.manual_seed(0)
    model, given = lesson.ARMS[arm](config, None).eval(), []
    found = lesson.representation(model, None, None)["probe"]
    assert found.pop("CLS", 1 / 6) == pytest.approx(1 / 6)
    assert set(found) == {"mean", "last"} and min(found.values()) < 0.6
    monkeypatch.setattr(lesson, "probe", lambda x, play: given.append((x, play)) or 0.0)
    lesson.representation(model, None, None)
    for i in (0, 1, 199, 200, 1199):
        text = lesson.as_bytes(lesson.PLAYS.held_out[i // 200])
        row = text[16 * (i % 200) :][:16][None]
        states = model.hidden(row) if arm == "vanilla" else model.states(row)[:, 1:]
        for (x, play), state in zip(
            given, (states[0].mean(0), states[0, -1]), strict=False
        ):
            assert torch.allclose(x[i], state, atol=1e-5) and play[i] == i // 200


def test_sample(lesson, make, sentences):
    model, before = make("CLS"), torch.get_rng_state()
    ids = lesson.sample(model, sentences, sentences)["sample"]
    assert len(ids) == 300 and ids == lesson.sample(model, None, sentences)["sample"]
    assert torch.equal(torch.get_rng_state(), before)


# Runs and their summary


def test_run(lesson, tiny, monkeypatch):
    """It gives what can be stored, the same twice; another seed gives another."""
    bytes_config = lesson.GPTConfig(256, 16, 2, 2, 16)
    for name, config in (("bytes", bytes_config), ("ten sentences", tiny)):
        setting = lesson.EXPERIMENTS[name]
        changes = {"updates": setting.recipe.updates and 3, "warm_up": 1, "epochs": 2}
        setting = replace(
            setting, config=config, recipe=replace(setting.recipe, **changes)
        )
        monkeypatch.setitem(lesson.EXPERIMENTS, name, setting)
        model, found = lesson.run(name, "CLS", 100)
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        assert len(found["held_out"]) == 3 and np.shape(found["gradient"]) == (2, 2)
    held_out = lesson.ten_sentences(tiny, 100)[1]
    assert found["held_out"][-1] == lesson.evaluate(model, held_out)
    assert found == lesson.run(name, "CLS", 100)[1]
    assert found["first"] != lesson.run(name, "CLS", 101)[1]["first"]


def test_unknown_runs_are_refused(lesson):
    for job, names in (
        (("ten", "CLS", 0), "ten sentences"),
        (("bytes", "cls", 0), "CLS"),
    ):
        with pytest.raises(ValueError, match=f"choose one of .*'{names}'"):
            lesson.run(*job)


@pytest.mark.parametrize("updates", [3, 25, 60])
def test_summary_of_a_made_up_history(lesson, updates):
    random = np.random.default_rng(updates)
    steps = random.uniform(1, 9, (2, updates))
    norms = random.uniform(1, 9, (2, updates, 2))
    flat = [steps.flatten().tolist(), [3.0, 2.0, 1.0], norms.reshape(-1, 2).tolist()]
    found = lesson.summary(lesson.History(*flat), 2)
    assert found["held_out"] == flat[1] and found["first"] == flat[0][:10]
    for e in range(2):
        assert found["epoch"][e] == pytest.approx(sum(steps[e]) / updates)
        assert found["last"][e] == steps[e][-1]
        for block in range(2):
            expected = math.log(stats.gmean(norms[e, :, block]))
            assert found["gradient"][e][block] == pytest.approx(expected)
        means, rest = found["curve"][e], steps[e].tolist()
        size, over = divmod(updates, len(means))  # as even as can be, the longer first
        parts = [
            [rest.pop(0) for _ in range(size + (i < over))] for i in range(len(means))
        ]
        assert means == pytest.approx([np.mean(part) for part in parts])
        assert len(means) == min(25, updates)
    history = lesson.History(flat[0], flat[1][:2], flat[2])
    with pytest.raises(RuntimeError, match="stopped"):
        lesson.summary(history, 2)


@pytest.mark.parametrize(("line", "words"), [
    ('{"experiment": "bytes", "arm": "CLS", "se', ["line 2", "Delete the line"]),
    ('{"experiment": "bytes", "arm": "CLS"}', ["line 2", "seed", "Delete the line"]),
    ("[1, 2]", ["line 2", "Delete the line"]),
    ("", ["line 2", "Delete the line"]),
    (None, ["line 2", "('bytes', 'CLS', 1)", "twice", "Delete the line"]),
    ('{"experiment": "a", "arm": "b", "seed": 1, "last": [NaN]}', ["a number is missing"]),
    ('{"experiment": "a", "arm": "b", "seed": 1, "last": -Infinity}', ["a number is missing"]),
])  # fmt: skip
def test_a_damaged_record(lesson, tmp_path, line, words):
    good = json.dumps({"experiment": "bytes", "arm": "CLS", "seed": 1, "last": [1.0]})
    path = tmp_path / "runs.jsonl"
    path.write_text(f"{good}\n{good if line is None else line}\n", "utf-8")
    with pytest.raises(ValueError) as caught:
        lesson.read_record(path)
    assert all(word in str(caught.value) for word in (str(path), *words))
    with pytest.raises(OSError, match="nowhere"):
        lesson.read_record(tmp_path / "nowhere")
    path.write_text(good + "\n", "utf-8")
    assert lesson.read_record(path) == {("bytes", "CLS", 1): json.loads(good)}


def test_an_altered_file_is_noticed(lesson, tmp_path, capsys):
    path = tmp_path / "runs.jsonl"
    path.write_bytes(b"1")
    sha256 = hashlib.sha256(b"1").hexdigest()
    assert lesson.fetch(path, sha256) == path and capsys.readouterr().out == ""
    path.write_bytes(b"2")
    assert lesson.fetch(path, sha256) == path
    assert f"{path} is not the file" in capsys.readouterr().out


# Claims and verdicts


def test_counting_gives_probabilities(lesson, random_ids):
    """They sum to one after every past; a run of three by hand (Witten and Bell 1991)."""
    text = random_ids(60, below=4)
    for past in itertools.product(range(5), repeat=2):  # 4 is never met
        for n in (1, 2, 3):
            runs = [torch.tensor([*past, last])[-n:] for last in range(5)]
            losses = [lesson.counted([text], [run], n, 5) for run in runs]
            assert math.fsum(math.exp(-loss) for loss in losses) == pytest.approx(1)
    tiny, asked = torch.tensor([0, 1, 0, 1, 0, 2]), [torch.tensor([0, 1, 0])]
    by_hand = (2 + (2 + 4 / 9) / 3) / 3  # of one kind after 0 1, of one kind after 1
    assert lesson.counted([tiny], asked, 3, 3) == pytest.approx(-math.log(by_hand))


def test_slopes(lesson):
    """Losses that fall by 0.5 a doubling; a seed without all three widths has none."""
    record = {}
    for doublings, width in enumerate((", width 64", "", ", width 256")):
        for seed in range(100 if width != ", width 256" else 102, 108):
            run = {"held_out": [9.0, 3.0 - 0.5 * doublings]}
            record["bytes" + width, "CLS", seed] = run
    found = lesson.slopes(record)
    assert set(found) == {(lesson.WIDTHS, "CLS", seed) for seed in range(102, 108)}
    assert all(run["slope"] == -0.5 for run in found.values())


def test_the_claims_can_be_judged(lesson):
    """Ten; each with ten common seeds and more wherever it is asked."""
    assert len({claim.name for claim in lesson.CLAIMS}) == 10
    for claim in lesson.CLAIMS:
        for name in {*claim.settings} - {lesson.WIDTHS}:
            seeds = lesson.EXPERIMENTS[name].seeds
            assert len({*seeds["CLS"]} & {*seeds[claim.against]}) >= 10, claim.name


def test_students_t(lesson):
    for level, reach in lesson.STUDENT.items():
        for n, t in reach.items():
            assert t == pytest.approx(stats.t.ppf(0.5 + level / 2, n - 1), abs=6e-4)


@pytest.mark.parametrize("level", [0.95, 0.995, 0.999])
@pytest.mark.parametrize("n", [5, 10, 20])
def test_intervals_against_scipy(lesson, level, n):
    gaps = np.random.default_rng(n).normal(1, 2, (n, 3))
    assert np.allclose(lesson.interval(gaps, level), by_scipy(gaps, level), rtol=1e-3)


@pytest.mark.parametrize(("mean", "half", "word"), [
    (-0.30, 0.10, "holds"),
    (-0.06, 0.02, "holds"),  # beyond the margin, or across it
    (0.30, 0.10, "opposite"),
    (0.04, 0.02, "opposite"),
    (-0.30, 0.40, "not resolved"),
    (0.03, 0.03, "not resolved"),
    (0.02, 0.02, "equal"),
    (-0.02, 0.01, "equal"),  # although it is none
    (0.0, 0.0, "equal"),
])  # fmt: skip
def test_verdicts(lesson, mean, half, word):
    assert lesson.verdict(mean, half, 0.05) == word
    assert lesson.verdict(-mean, half, 0.05, better=+1) == word


def test_units_and_seeds_of_a_judgement(lesson):
    """Nats; bits a byte, tokens counted in bytes; only the seeds that count."""
    text = lesson.hamlet(lesson.GPTConfig(), 0)[1][:, 1:].flatten().tolist()
    size = sum(len(lesson.PLAYS.vocab[i]) for i in text) / len(text)  # bytes a token
    random = np.random.default_rng(0)
    for name, unit, seeds in (
        ("ten sentences", 1.0, range(105, 115)),
        ("documented", 1 / size / math.log(2), range(100, 110)),
        ("bytes", 1 / math.log(2), range(100, 112)),
    ):
        record = made_up(name, [90, 99, *range(100, 120)], shift=99.0)
        record |= made_up(name, seeds, -0.3, lambda: random.normal(0, 0.05, 21))
        if name != "ten sentences":
            for seed in range(max(seeds) + 1, 120):
                del record[name, "CLS", seed]
        losses = [
            np.array([record[name, arm, seed]["epoch"][-1] for seed in seeds])
            for arm in ("CLS", "vanilla")
        ]
        found = lesson.judge(record, claim_of(lesson, "Lower final loss"), name)
        expected = by_scipy(unit * (losses[0] - losses[1]), 0.995)
        assert np.allclose(found[:2], expected, rtol=1e-3) and found[2] == "holds"


@pytest.mark.parametrize(("gaps", "word"), [
    ([-1, -1, -1, -1, -1], "holds"),
    ([-1, -1, 0, -1, -1], "equal"),
    ([-1, -1, -1, -1, 1], "opposite"),
    ([0, 0, 0, 0, 1], "opposite"),
    ([0, 0, 0, 0, 0], "equal"),
])  # fmt: skip
def test_a_claim_about_every_epoch_gets_its_worst_word(lesson, gaps, word):
    claim, record = claim_of(lesson, "Consistent"), made_up("bytes", range(100, 110))
    gaps = gaps + np.random.default_rng(0).normal(0, 1e-3, (10, 5))
    for seed in range(100, 110):
        record["bytes", "CLS", seed]["epoch"] = gaps[seed - 100].tolist()
    found = lesson.judge(record, claim, "bytes")
    assert np.allclose(found[:2], by_scipy(gaps / math.log(2), 0.999), rtol=1e-3)
    assert found[2] == word
    for seed in range(100, 110, 2):
        record["bytes", "CLS", seed]["epoch"][1] += 50  # one epoch that nobody can tell
    word = "not resolved" if word == "holds" else word
    assert lesson.judge(record, claim, "bytes")[2] == word


def words(lesson, record):
    """The word of each claim that compares runs, as bytes."""
    asked = [c for c in lesson.CLAIMS if c.measure and c.name != "Scales"]
    return {c.name: lesson.judge(record, c, "bytes")[2] for c in asked}


def better(run, name):
    """Make one measure of a run better by 9."""
    if name == "column":
        run["column hidden"] += 9
    elif name == "gradient":
        run["gradient"] = [[first + 9, last] for first, last in run["gradient"]]
    else:
        run[name] = [x - 9 for x in run[name]]
        run["column hidden"] = run["held_out"][-1]


@pytest.mark.parametrize(("name", "claims"), [
    ("epoch", {"Lower final loss", "Consistent", "Faster"}),
    ("held_out", {"Generalizes", "Beats a constant"}),
    ("column", {"Attention uses it"}),
    ("gradient", {"Better gradient flow"}),
])  # fmt: skip
def test_each_claim_hears_its_measure_and_is_equal_only_if_the_placebo_is(
    lesson, name, claims
):
    record = made_up("bytes", range(100, 110))
    assert set(words(lesson, record).values()) == {"equal"}
    for seed in range(100, 110):
        better(record["bytes", "CLS", seed], name)
    found = words(lesson, record)
    assert {claim for claim, word in found.items() if word == "holds"} == claims
    assert set(found.values()) == {"holds", "equal"}
    record = made_up("bytes", range(100, 110))
    if name != "column":  # a placebo has no column to hide
        for seed in range(100, 110):
            better(record["bytes", "placebo", seed], name)
        found = words(lesson, record)
        assert {claim for claim, word in found.items() if word != "equal"} == claims
        assert {found[claim] for claim in claims} == {"not resolved"}
    without = {job: run for job, run in record.items() if job[1] != "placebo"}
    assert set(words(lesson, without).values()) == {"not resolved"}


def test_what_is_impossible(lesson):
    record = made_up("bytes", range(100, 104))
    for name in ("Represents the input", "Classifies, retrieves"):
        assert lesson.judge(record, claim_of(lesson, name), "bytes")[2] == "impossible"
    record["bytes", "CLS", 102]["spread"] = 0.1
    found = lesson.judge(record, claim_of(lesson, name), "bytes")
    assert found[::2] == (0.1, "not resolved")


def test_false_verdicts_are_rare_and_true_effects_found(lesson, record):
    """2,000 claims about equal models: at most 1 of 100 gets a false verdict.

    Their numbers scatter as those of vanilla's recorded runs do, seed by seed.
    """
    random, name = np.random.default_rng(0), "ten sentences"
    runs = [run for job, run in record.items() if job[:2] == (name, "vanilla")]
    parts = [(run["epoch"], run["held_out"], np.ravel(run["gradient"])) for run in runs]
    real = [np.concatenate(part) for part in parts]
    spread = np.cov(np.transpose(real))
    draws = random.multivariate_normal(np.zeros(21), spread, 40_000)
    asked = [c for c in lesson.CLAIMS if name in c.settings and c.measure]
    draw, verdicts = iter(draws).__next__, Counter()
    while verdicts.total() < 2000:
        study = made_up(name, lesson.REPORT, draw=draw)
        verdicts.update(lesson.judge(study, claim, name)[2] for claim in asked)
    assert verdicts["holds"] + verdicts["opposite"] <= stats.binom.ppf(
        0.999, 2000, 0.01
    )
    assert verdicts["not resolved"] > 1000  # the spread is real
    claim, margin = claim_of(lesson, "Generalizes"), 0.02 * math.log(2)  # in nats
    for shift, word in ((-3 * margin, "holds"), (3 * margin, "opposite"), (0, "equal")):
        found, size = Counter(), 0.01 if shift else 0.001
        for _ in range(50):
            draw = functools.partial(random.normal, 2, size, 21)
            study = made_up("bytes", range(100, 112), shift, draw)
            found[lesson.judge(study, claim, "bytes")[2]] += 1
        assert found[word] >= 48, found


def test_the_best_rate_is_chosen_by_the_first_five_seeds(lesson):
    """Whatever the reported seeds say."""
    record = {}
    for rate, experiment in lesson.RATES.items():
        assert lesson.EXPERIMENTS[experiment].recipe.learning_rate == rate
        for seed in range(100, 115):
            chosen = 0.3 if rate == 1e-3 else 0.5 + rate
            loss = chosen if seed < 105 else 9 * rate
            record[experiment, "CLS", seed] = {"held_out": [9.0, loss]}
    assert lesson.best_rate(record, "CLS") == 1e-3
    losses = lesson.losses_at(record, 1e-3, "CLS", lesson.REPORT)
    assert losses == pytest.approx([9e-3] * 10)
