"""The study: its texts, arms and measures, the choice of rates, words and verdicts."""

import functools
import hashlib
import io
import itertools
import json
import math
from collections import Counter

import numpy as np
import pytest
import record as recorded
import torch
from peer import by_scipy, counted
from scipy import stats

GONE = ("all plays", "bytes, 150 kB")  # experiments that left the page


def test_ten_sentences_have_the_released_statistics(lesson, small):
    """One stream of 64 tokens, cut into all its 48 windows; another under each seed."""
    streams = []
    for seed in (100, 101, 100):
        rows, held_out = lesson.ten_sentences(small, seed)
        ids = torch.cat([rows[0], rows[1:, -1]])
        assert torch.equal(ids.unfold(0, 17, 1), rows) and torch.equal(rows, held_out)
        ids, counts = ids.tolist(), sorted(Counter(ids.tolist()).values())
        ends = [i for i, token in enumerate(ids) if token == ids[-1]]
        assert (len(ids), len(counts), len(ends)) == (64, 50, 10)
        streams.append((ids, [ids.index(i) for i in ids], ends, counts))
    assert streams[0] == streams[2] and streams[0][2:] == streams[1][2:]
    assert streams[0][1] != streams[1][1]  # another order, not only other ids


def test_plays_as_bytes(lesson):
    """Training plays whole, end to end; windows of every unseen play, of no other."""
    plays, found = lesson.PLAYS, lesson.plays_as_bytes(lesson.BYTE_MODEL, 0)
    texts = {n: b"".join(plays.vocab[i] for i in ids) for n, ids in plays.texts.items()}
    unseen = [texts.pop(name) for name in plays.held_out]
    assert (len(texts), len(unseen), len(found[1])) == (32, 6, 600)
    starts = [(t, i) for t in texts.values() for i in range(0, len(t) - 64, 64)]
    assert list(map(bytes, found[0].tolist())) == [t[i : i + 65] for t, i in starts]
    rows = list(map(bytes, found[1].tolist()))
    assert all(any(row in text for text in unseen) for row in rows)
    assert all(any(row in text for row in rows) for text in unseen)


def test_units_are_those_of_the_text_measured(lesson):
    """A nat in bits per byte, from the tokens and bytes of the very windows."""
    setting, units = lesson.EXPERIMENTS["documented"], []
    data = setting.data(setting.config, 0)
    for name, rows in zip(("Hamlet", "Macbeth"), data, strict=True):
        assert torch.equal(rows[0], lesson.PLAYS.texts[name][:65])
        text = b"".join(lesson.PLAYS.vocab[i] for i in rows[:, 1:].flatten())
        units.append(pytest.approx(rows[:, 1:].numel() / len(text) / math.log(2)))
    assert [lesson.HAMLET.train_unit, lesson.HAMLET.unit] == units
    for other in (lesson.BYTES, lesson.NARROW, lesson.WIDE, lesson.SHORT):
        assert other.unit == other.train_unit == 1 / math.log(2)
    assert setting.config == lesson.GPTConfig(21_247, 64, 3, 8, 256)
    assert not hasattr(lesson, "config")  # the lesson's sizes, made to be changed


@pytest.mark.parametrize("n", [1, 2, 3])
def test_counting(lesson, random_ids, n):
    """Windows, with as much past as they have, by search; p sums to one after any past."""
    texts, asked = [random_ids(k, below=4) for k in (40, 30)], random_ids(6, 9, below=5)
    lists = [text.tolist() for text in texts]  # 4 is never met
    places = [(row, t) for row in asked.tolist() for t in range(1, 9)]
    p = [counted(lists, row[max(0, t + 1 - n) : t], row[t], 5) for row, t in places]
    assert lesson.counted_runs(texts, asked, n, 5) == pytest.approx(-np.mean(np.log(p)))
    pasts = torch.cartesian_prod(*[torch.arange(5)] * n).view(-1, n)[:, 1:].tolist()
    sums = [sum(counted(lists, past, last, 5) for last in range(5)) for past in pasts]
    assert np.allclose(sums, 1)
    if n < 3:  # the lesson's own functions, in windows
        count = (lesson.counted_tokens, lesson.counted_pairs)[n - 1]
        expected = lesson.counted_runs(texts[:1], asked, n, 5)
        assert count(texts[0], asked, 5) == pytest.approx(expected)


@pytest.mark.parametrize("arm", ["vanilla", "CLS", "constant", "one-hot constant"])
def test_first_steps_are_as_long_as_the_levers_say(lesson, monkeypatch, arm):
    """To the digit, as the states are frozen and all tokens held for equally likely."""
    config = lesson.replace(lesson.RELEASED, vocab_size=2000, dropout=0.0)
    monkeypatch.setattr(lesson, "RELEASED", config)
    adam, sgd, falls = *lesson.levers(arm), Counter()
    for name, seed in itertools.product(("Adam", "SGD"), range(105, 108)):
        data = lesson.ten_sentences(config, seed)[0]
        model = lesson.build(lesson.ARMS[arm], config, data, seed).requires_grad_(False)
        model.lm_head.weight.zero_().requires_grad_()
        options = {"eps": 0.0} if name == "Adam" else {}
        lesson.train(model, lesson.Recipe(1, 48, 0.1, name, options), data, data, seed)
        never = [token for token in range(2000) if token not in data]
        falls[name] -= model(data[:, :-1])[:, :, never].mean().item() / 3
    assert falls == pytest.approx({"Adam": adam / 10, "SGD": sgd / 20_000}, rel=1e-3)


def test_without_cls(lesson, make, data):
    """A part taken away leaves the arm without it; the model stays as it was."""
    parts = {"readout dropped": "prepended", "column hidden": "read-only"}
    model, placebo = make("CLS"), make("placebo")
    before, found = lesson.evaluate(model, data), lesson.without_cls(model, data, data)
    for part, arm in parts.items():
        assert found[part] == pytest.approx(lesson.evaluate(make(arm), data), abs=1e-5)
        left = lesson.without_cls(make(arm), data, data).keys()
        assert left == parts.keys() - {part} | {"spread"}
    assert found["spread"] < 1e-5 and lesson.evaluate(model, data) == before
    placebo.states = lambda idx: placebo.wte(idx)  # they change with the input
    assert lesson.without_cls(placebo, data, data)["spread"] > 0.1


def test_intervals_against_scipy(lesson):
    for n, level in itertools.product(range(2, 41), (0.95, 0.995, 0.999)):
        t = stats.t.ppf(0.5 + level / 2, n - 1)
        assert lesson.student_t(n, level) == pytest.approx(t, rel=1e-3), n
        gaps = np.random.default_rng(n).normal(1, 2, (n, 3))
        assert np.allclose(lesson.interval(gaps, level), by_scipy(gaps, level), 1e-3)
    assert np.allclose(lesson.interval(gaps), by_scipy(gaps, 0.995), 1e-3)


@pytest.mark.parametrize(("mean", "half", "word"), [
    (-0.5, 0.24, "ahead"), (-0.5, 0.25, "slightly ahead"),  # reaches into the margin
    (-0.5, 0.49, "slightly ahead"), (-0.5, 0.5, "open"),  # reaches zero
    (-0.125, 0.126, "open"), (-0.125, 0.125, "equal"),  # leaves the margin
    (-0.2, 0.05, "equal"), (0.0, 0.0, "equal"), (0.0, 0.3, "open"),
])  # fmt: skip
def test_words_on_their_borders(lesson, mean, half, word):
    """The margin is 0.25; the same the other way round."""
    assert lesson.word(mean, half, 0.25) == lesson.word(-mean, half, 0.25, +1) == word
    assert lesson.word(-mean, half, 0.25) == word.replace("ahead", "behind")


@pytest.mark.parametrize(("losses", "best"), [
    ([None, 5, 3, 2, 4, 5, None], 4), ([0, 5, 3, 2, 4, 5, 0], 4),  # the ends are spare
    ([None, 5, 2, 3, 2, 5, None], 3), ([None, 5, 3, 0.5, 4, 5, None], 3),  # one broke
    ([None, 1, 3, 2, 4, 5, 0], "rate 1"), ([0, 5, 3, 2, 4, 1, None], "rate 7"),
    ([9, 1, 3, 2, 4, 5, None], 2), ([0, 1, 3, 2, 4, 5, None], 1),
    ([None, 5, 3, 2, 4, 1, 0.5], 6), ([None, 5, 3, 2, 4, 1, 0], 7),
    ([None, 5, 3, None, 4, 5, None], "rate 4"), ([None] * 7, "rate 2"),
])  # fmt: skip
def test_the_best_rate(lesson, losses, best):
    """By the mean over the seeds that choose, whatever others say; or what is lacking."""
    rates, record = {r: f"rate {r}" for r in range(1, 8)}, lesson.Record()
    setting = lesson.Setting(rates=rates, own=("vanilla",), report={})
    for (rate, loss), seed in itertools.product(enumerate(losses, 1), range(100, 110)):
        if loss is not None:
            mine = rate * (seed - 102) + loss if seed < 105 else -9 * rate
            run = {"broke": 7} if loss == 0.5 and seed == 103 else {"held_out": [mine]}
            record[rates[rate], "vanilla", seed] = run
    low, high = best in (1, 2, "rate 1"), best in (6, 7, "rate 7")
    tried = list(range(1 if low else 2, 8 if high else 7))
    assert lesson.rates_to_try(record, setting, "vanilla") == tried
    if isinstance(best, int):  # other arms take vanilla's
        assert lesson.best_rate(record, setting, "vanilla") == best
        assert lesson.at_best(record, setting, "CLS") == (rates[best], "CLS")
        del record["rate 3", "vanilla", 104]
        best = "'rate 3', 'vanilla', 104"
    with pytest.raises(LookupError, match=f"the record lacks the run .*{best}"):
        lesson.best_rate(record, setting, "CLS")


def test_what_is_asked_for(lesson, record, made_up):
    """All that is recorded, but an arm that left the page; what waits is said in words."""
    left = record.keys() - set(lesson.asked(record)[0])
    assert {arm for n, arm, _ in left if n not in GONE} == {"scaled bias"}
    first, last, report = set(), set(), set()
    for name, setting in lesson.EXPERIMENTS.items():
        first |= {(name, arm, s) for arm in setting.seeds for s in setting.seeds[arm]}
    asked, waiting = lesson.asked(lesson.Record())
    for s in lesson.TUNED:
        low, *others, _ = (s.rates[rate] for rate in sorted(s.rates))
        first |= set(itertools.product(others, s.own, s.choose))
        last |= set(itertools.product([low], s.own, s.choose))
        report |= {(low, arm, seed) for arm in s.report for seed in s.report[arm]}
        lacking = f"not known yet: the record lacks the run ('{others[0]}', 'vanilla'"
        assert any(lacking in line for line in waiting)
    assert sorted(asked) == sorted(first)
    asked, waiting = lesson.asked(made_up(lesson.TUNED, lesson.ARMS))  # all rates equal
    assert set(asked) == first | last | report and not waiting


def test_differences_need_their_runs(lesson, made_up):
    """Seed by seed, of all from 100 on that both have; or in words what is lacking."""
    ours, theirs = ("ten sentences", "CLS"), ("ten sentences", "vanilla")
    record = made_up([lesson.TEN], draw=lambda name, arm, seed: seed * (arm == "CLS"))
    ask = functools.partial(lesson.differences, record, lesson.final_loss, ours, theirs)
    record[*ours, 200] = record.pop((*ours, 107))  # the other lacks it
    record[*theirs, 99] = record[*ours, 99] = record[*ours, 100]  # a trial's
    assert ask().tolist() == [2 * seed for seed in range(100, 115) if seed != 107]
    record[*ours, 108] = {"broke": 7}
    cases = {(105, 107): "'CLS', 107", (108, 109): "under seed 108", (105,): "two"}
    for seeds, words in cases.items():
        with pytest.raises(LookupError, match=words):
            ask(seeds)


@pytest.mark.parametrize(("place", "name", "seeds"), [
    ("published", "TEN", range(100, 115)), ("documented", "HAMLET", range(100, 117)),
    ("bytes tuned", "BYTES", range(105, 117)), ("Hamlet tuned", "HAMLET", range(105, 117)),
])  # fmt: skip
def test_verdicts_by_hand(lesson, made_up, place, name, seeds):
    """Each arm at the rate where the seeds that choose are best; the others count."""
    setting, random = getattr(lesson, name), np.random.default_rng(0)
    names = list(setting.rates.values())
    best = {"vanilla": names[3], "CLS": names[2], "constant": names[3]}

    def draw(name, arm, seed):
        return random.normal(5, 1, 5) * (name != best[arm] or seed > 104)

    record, fixed = made_up([setting], draw=draw), lesson.PLACES[place][1]
    runs = [[record[fixed or best[a], a, s]["epoch"] for s in seeds] for a in best]
    vanilla, cls, constant = np.array(runs)
    expected = {
        "Lower final loss": setting.train_unit * (cls - vanilla)[:, -1],
        "Consistent": setting.train_unit * (cls - vanilla),
        "Faster": setting.train_unit * (cls - vanilla).mean(axis=1),
        "Generalizes": 2 * setting.unit * (cls - vanilla)[:, -1],
        "Parameter-efficient": 2 * setting.unit * (cls - constant)[:, -1],
        "Better attention": setting.unit * (cls[:, 0] - cls[:, 1]),
        "Better gradient flow": (cls - vanilla).mean(axis=1),
    }
    for claim in lesson.CLAIMS:
        if place in claim.places:
            gaps, found = expected[claim.name], lesson.judge(record, claim, place)[:2]
            mean, half = by_scipy(gaps, 0.995 if gaps.ndim == 1 else 0.999)
            close = np.isclose(mean, found[0]) & np.isclose(half, found[1], rtol=1e-3)
            assert close.any(), claim  # of one number, or of five epochs


def test_equal_models_seldom_look_different(lesson, made_up, monkeypatch):
    """Choice of rates, differences and words: at most 1 of 100 directions is false."""
    monkeypatch.setattr(lesson, "student_t", functools.cache(lesson.student_t))
    settings = [lesson.TEN, lesson.HAMLET, lesson.BYTES, lesson.NARROW, lesson.WIDE]
    random, words = np.random.default_rng(0), Counter()
    asked = [(claim, place) for claim in lesson.CLAIMS for place in claim.places]
    for _ in range(40):
        record = made_up(settings, draw=lambda *run: random.normal(9, 0.1, 5))
        words.update(lesson.judge(record, claim, place)[2] for claim, place in asked)
    false = words.total() - words["open"] - words["equal"]
    assert false <= stats.binom.ppf(0.999, words.total(), 0.01)
    assert words["open"] > 600  # the scatter is wide enough


@pytest.mark.parametrize(("shift", "words"), [
    ([-1, -1, -1, -1, -1], ["ahead", "ahead", "equal", "behind"]),
    ([0, -1, -1, -1, -1], ["equal", "ahead", "ahead", "behind"]),
    ([1, -1, -1, -1, -1], ["behind", "ahead", "ahead", "behind"]),
    ([0, 0, 0, 0, 1], ["behind", "behind", "equal", "ahead"]),
])  # fmt: skip
def test_words_of_claims(lesson, made_up, shift, words):
    """Of five epochs the worst; of attention and gradients more is better."""

    def draw(name, arm, seed):
        return np.array(shift) * (arm == "CLS" and "width 64" not in name)

    record = made_up([lesson.TEN, lesson.NARROW, lesson.WIDE], draw=draw)
    names = ("Consistent", "Scales", "Better attention", "Better gradient flow")
    claims = [claim for claim in lesson.CLAIMS if claim.name in names]
    assert [lesson.judge(record, c, c.places[0])[2] for c in claims] == words


def test_a_head_start_is_read_off_the_curve(lesson):
    """Of recipes a nat each, whose lead is a fifth of vanilla's loss, at any loss."""
    record, seeds = lesson.Record(), range(105, 110)
    for (i, name), seed in itertools.product(enumerate(lesson.ADAMW), seeds):
        losses = np.linspace(11 - i, 10 - i, 6) + (seed - 107) / 10
        record[name, "vanilla", seed] = {"held_out": losses}
        record[name, "CLS", seed] = {"held_out": 0.8 * losses}
    loss, gap = lesson.lead(record, lesson.ADAMW[4])
    assert np.allclose(loss, np.linspace(7, 6, 6)) and np.allclose(gap, -0.2 * loss)
    found = lesson.head_start(record, [4.3, 6.2, 9.9])
    assert np.allclose(found, [-0.86, -1.24, -1.98])
    assert lesson.head_start(record, 4.3, lesson.ADAMW[:2]) < -1.8  # the nearest it has


@pytest.mark.parametrize(("line", "words"), [
    ('{"experiment": "bytes", "arm": "CLS", "se', "Unterminated"), ("[1, 2]", "no losses"),
    ("", "Expecting value"), ('{"arm": "CLS", "held_out": [1.0]}', "key"),
    ('{"experiment": "bytes", "arm": "CLS", "seed": 2}', "no losses"),
    ('{"experiment": "a", "arm": "b", "seed": 1, "held_out": [NaN]}', "finite"),
    ('{"experiment": "a", "arm": "b", "seed": 1, "held_out": [-Infinity]}', "finite"),
    (None, "'CLS', 1.*twice"),
])  # fmt: skip
def test_a_damaged_record(lesson, tmp_path, monkeypatch, line, words):
    monkeypatch.setattr(recorded, "RECORD", tmp_path / "runs.jsonl")
    run = {"experiment": "bytes", "arm": "CLS", "seed": 1, "held_out": [1.0]}
    made = {"key": "k", "made": dict.fromkeys(recorded.MADE)}
    good = json.dumps(run | made) + "\n"
    recorded.RECORD.write_text(good + '{"torn of')
    assert recorded.read(lesson) == (lesson.read_record(good), len(good))
    recorded.RECORD.write_text(good + (good if line is None else f"{line}\n"))
    with pytest.raises(ValueError, match=f"runs.jsonl, line 2.*{words}.*Delete the"):
        recorded.read(lesson)


@pytest.mark.parametrize(("there", "sent", "changed", "words"), [
    (b"right", None, False, None), (b"mine", None, True, None),
    (None, b"right", False, None), (b"mine", b"right", False, "another file"),
    (None, b"wrong", True, "another file"), (None, None, False, "no network"),
])  # fmt: skip
def test_a_data_file(lesson, tmp_path, monkeypatch, there, sent, changed, words):
    """That beside the notebook, or the network's; else it is said how to get it."""

    def urlopen(address, timeout):
        raw = "https://raw.githubusercontent.com/OWNER/REPOSITORY/main/data/a.txt"
        assert address == raw.replace("OWNER/REPOSITORY", lesson.HOME[19:])
        if sent is None:
            raise OSError("no network")
        return io.BytesIO(sent)

    monkeypatch.setattr(lesson.urllib.request, "urlopen", urlopen)
    monkeypatch.chdir(tmp_path)
    path, sha256 = tmp_path / "data" / "a.txt", hashlib.sha256(b"right").hexdigest()
    if there:
        path.parent.mkdir()
        path.write_bytes(there)
    if words is None:
        found = lesson.fetch("data/a.txt", sha256, changed)
        assert found.read_bytes() == path.read_bytes() == (there or sent)
    else:
        says = f"{words}.*data/a.txt.*Clone.*Colab.*Kaggle"
        with pytest.raises(FileNotFoundError, match=says):
            lesson.fetch("data/a.txt", sha256, changed)
        assert path.read_bytes() == there if there else not path.parent.exists()


@pytest.mark.parametrize("content", [None, b"short", b"PK\0" * 10_000])
def test_an_own_text_is_one(lesson, tmp_path, content):
    path = tmp_path / "my.txt"
    path.write_bytes(b"To be, or not. " * 2000)
    train, held_out = lesson.own_text(path)
    assert bytes(train) + bytes(held_out) == path.read_bytes() and len(held_out) == 3000
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(AssertionError, match=r"my.txt.*a text file.* 25,000 bytes"):
        lesson.own_text(path)
