"""The data file of the plays, and the script that makes it and files of one's own text."""

import hashlib
import os
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import prepare
import pytest

SCRIPT = Path(prepare.__file__)
PLAYS = SCRIPT.with_name("shakespeare.npz")
END = b"<|endoftext|>"
ENOUGH, BOM = b"enough text\n" * 400, b"\xef\xbb\xbf"


def run(*args, **options):
    command = [sys.executable, SCRIPT, *map(str, args)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", **options)


def read(path):
    """The texts (bytes by name), the names held out and the vocabulary, as README.md has it."""
    with np.load(path, allow_pickle=False) as file:
        data = dict(file)
    assert data["ids"].dtype == np.uint16 and data["offsets"][-1] == len(data["ids"])
    vocab = [data["vocab"][a:b].tobytes() for a, b in pairwise(data["vocab_offsets"])]
    texts = [
        b"".join(vocab[i] for i in data["ids"][a:b])
        for a, b in pairwise(data["offsets"])
    ]
    texts = dict(zip(data["names"].tolist(), texts, strict=True))
    return texts, data["names"][data["held_out"]].tolist(), vocab


@pytest.mark.parametrize(
    "damage",
    [
        {"vocab": None},
        {"ids": np.array([5, 0, 1, 2], np.uint16)},  # of five entries
        {"names": np.array(["a"])},
        {"held_out": np.array([True])},
    ],
)
def test_the_notebook_refuses_a_damaged_file(lesson, tmp_path, damage):
    entries = {"vocab": np.arange(5, dtype=np.uint8), "vocab_offsets": np.arange(6)}
    texts = {"ids": np.array([4, 0, 1, 2], np.uint16), "offsets": np.array([0, 1, 4])}
    names = {"names": np.array(["a", "b"]), "held_out": np.array([True, False])}
    whole = entries | texts | names
    np.savez(tmp_path / "whole.npz", **whole)
    corpus = lesson.Corpus(tmp_path / "whole.npz")
    assert corpus.held_out == ["a"] and corpus.texts["b"].tolist() == [0, 1, 2]
    damaged = {k: v for k, v in (whole | damage).items() if v is not None}
    np.savez(tmp_path / "damaged.npz", **damaged)
    with pytest.raises(ValueError, match=r"damaged.npz: not a text as ids.*prepare.py"):
        lesson.Corpus(tmp_path / "damaged.npz")


@pytest.fixture
def make(tmp_path):
    """A function that runs the script on files {name: bytes} and reads what it wrote."""

    def made(files, vocab_size, **options):
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        args = ["--text", *files, "--vocab-size", vocab_size, "--out", "own.npz"]
        result = run(*args, cwd=tmp_path, **options)
        assert result.returncode == 0, result.stderr
        return *read(tmp_path / "own.npz"), result.stdout

    return made


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    return prepare.fetch_wheel(str(tmp_path_factory.mktemp("wheel")))


def test_a_rebuild_gives_the_same_file(wheel, tmp_path):
    result = run("--wheel", wheel, "--out", tmp_path / "again.npz")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "again.npz").read_bytes() == PLAYS.read_bytes()
    digest = hashlib.sha256(PLAYS.read_bytes()).hexdigest()
    assert digest in result.stdout and digest in SCRIPT.with_name(
        "README.md"
    ).read_text("utf-8")


def test_the_file_holds_each_play(wheel):
    texts, held_out, vocab = read(PLAYS)
    plays = {play.name: play for play in prepare.read_plays(wheel)}
    assert len(texts) == 38
    assert texts == {name: play.text.encode() + END for name, play in plays.items()}
    six = "Coriolanus, King John, Macbeth, Measure for Measure, The Tempest, Twelfth Night"
    assert ", ".join(sorted(held_out)) == six
    assert sorted(plays[n].genre for n in held_out) == sorted(
        {p.genre for p in plays.values()}
    )
    assert len(set(vocab)) == 21_247 and {bytes([b]) for b in range(256)} < set(vocab)
    for text in (play.text for play in plays.values()):
        assert not set(text) & set("*_\\#") and text == "\n".join(
            map(str.rstrip, text.split("\n"))
        )
    assert plays["Macbeth"].text.startswith(
        "Macbeth\n\nACT I\n\nSCENE I. A desert place.\n\nThun"
    )


def test_own_text_comes_back_byte_for_byte(make):
    rtl, crlf = "שלום עולם 👩‍🔬😀\n" * 600, "Äpfel,\r\n\u2028Birnen\t 🌰 \ufeff\n" * 100
    files = {"rtl.txt": rtl.encode(), "crlf.txt": BOM + crlf.encode()}
    texts, held_out, vocab, _ = make(files, 280)
    assert texts == {
        "rtl": rtl.encode() + END,
        "crlf": crlf.encode() + END,
    }  # less its mark
    assert held_out == ["crlf"] and len(vocab) == 280
    files["crlf.txt"] = b"What is held out shapes no vocabulary. " * 30
    assert make(files, 280)[2] == vocab


@pytest.mark.parametrize(
    ("before", "end"),
    [
        (b"a line of a text\n" * 450, b"a line of a text\n" * 50),
        (b"word " * 1800, b"word " * 200 + b"wo"),  # one line
        ("天地玄黄".encode() * 900, "天地玄黄".encode() * 100),  # one word
        (b"a\n" * 9 + b"word " * 1799, b"word " * 201),  # uneven lines
    ],
)
def test_a_single_file_holds_its_last_tenth_out(make, before, end):
    texts, held_out, *_ = make({"one.txt": before + end}, 258)
    assert texts == {"one": before + END, "one (end)": end + END} and held_out == [
        "one (end)"
    ]


@pytest.mark.parametrize(
    ("sizes", "n"),
    [([50, 50], 1), ([99, 1], 1), ([5, 90, 5], 1), ([10] * 30, 3), ([90, 4, 3, 3], 3)],
)
def test_the_last_files_nearest_to_a_tenth_are_held_out(sizes, n):
    texts = [(str(i), "x" * size) for i, size in enumerate(sizes)]
    assert prepare.split(texts) == (texts[:-n], texts[-n:])


def test_thirty_short_poems_are_joined(make):
    poems = [
        f"{i:02} roses are red\nviolets blue\n".encode() * 3 for i in range(10, 40)
    ]
    files = {f"poem{i}.txt": poem for i, poem in enumerate(poems, 10)} | {
        "void": BOM + b"\n"
    }
    texts, held_out, _, printed = make(files, 257)
    first, last = "poem10 to poem36", "poem37 to poem39"
    assert texts == {
        first: END.join(poems[:27]) + END,
        last: END.join(poems[27:]) + END,
    }
    assert held_out == [last] and f"Held out, 10% of the text: {last[:6]}" in printed
    assert printed.count("Joined") == 2 and "void: empty" in printed


def test_a_short_file_joins_its_neighbour_of_the_same_kind(make):
    long, short = b"long text " * 300, b"short"
    texts, held_out, *_ = make(
        {"a": short, "b": long, "c": long, "d": short, "e": long}, 257
    )
    assert list(texts) == ["a to b", "c to d", "e"] and held_out == ["e"]


def test_joined_files_get_no_name_that_another_has(tmp_path):
    files = {"a": b"short", "b": ENOUGH, "a to b": ENOUGH, "z": ENOUGH}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    args = ["--text", *files, "--vocab-size", 257, "--out", "own.npz"]
    result = run(*args, cwd=tmp_path)
    assert result.returncode != 0 and "are named a to b" in result.stderr
    assert set(os.listdir(tmp_path)) == set(files)


def test_just_enough(make):
    """With 257 entries a byte is a token: 32 windows of 64 and the next one, and 4 of them."""
    assert make({"a": b"x" * 32 * 64, "b": b"y" * 4 * 64}, 257)[1] == ["b"]


def test_a_long_text_without_spaces_takes_seconds(make):
    text = "".join(random.Random(0).choices("天地玄黄abcdefgh", k=400_000)).encode()
    texts, *_ = make({"long": text}, 1000, timeout=20)  # minutes, if it were one word
    assert b"".join(part.removesuffix(END) for part in texts.values()) == text


def test_any_console_and_any_file_name_will_do(make):
    name = (
        "grün\udcff" if sys.platform == "linux" else "grün"
    )  # the last byte is not UTF-8
    env = os.environ | {"PYTHONIOENCODING": "ascii"}
    texts, *_, printed = make({name: ENOUGH}, 258, env=env)
    assert "gr?n" in printed and min(texts).encode().startswith("grün".encode())


@pytest.mark.parametrize(
    ("files", "options", "words"),
    [
        ([ENOUGH], ["--vocab-size", "5000"], ["5000", "yields only 2", "smaller --vocab-size"]),
        *(([ENOUGH], ["--vocab-size", v], [repr(v), "whole number from 257", "65536", "default"])
          for v in ("0", "256", "65537", "-5", "1e3", "1000.0", "")),
        ([b"x" * 2047, ENOUGH], [], ["0: 2,048 tokens to train on", "2,049", "more text"]),
        ([ENOUGH, b"x" * 255], [], ["1: 256 tokens to be held out", "257", "more text"]),
        ([BOM, b" \n"], [], ["every file is empty", "Give a file"]),
        ([BOM + b"caf\xe9\n"], [], ["0: byte 6", "UTF-8 first"]),
        ([None], [], ["0: cannot be read", "No such file", "UTF-8 text files"]),
        # Where to write is looked at first: that the text cannot be read is not found out.
        *(([None], ["--out", out], ["--out", "cannot be written", "in a folder that exists"])
          for out in ("missing/own.npz", ".", "", "/", "file/own.npz")),
    ],
)  # fmt: skip
def test_refusals(tmp_path, files, options, words):
    (tmp_path / "file").touch()
    for i, content in enumerate(files):
        if content is not None:
            (tmp_path / str(i)).write_bytes(content)
    before = set(tmp_path.iterdir())
    args = ["--text", *range(len(files)), "--vocab-size", 257, "--out", "own.npz"]
    result = run(*args, *options, cwd=tmp_path)
    assert result.returncode != 0 and "Traceback" not in result.stderr
    assert not [word for word in words if word not in result.stderr], result.stderr
    assert set(tmp_path.iterdir()) == before


def test_refused_names_and_wheels(tmp_path):
    with pytest.raises(SystemExit, match=r"two files are named prepare.*Rename"):
        prepare.read_own([SCRIPT, SCRIPT])
    (tmp_path / "wrong.whl").write_bytes(b"PK")
    for name, words in (("wrong.whl", "SHA-256"), ("missing.whl", "no such file")):
        with pytest.raises(SystemExit, match=words):
            prepare.read_plays(tmp_path / name)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), OSError(28, "No space left on device")]
)
def test_nothing_half_written_is_left(tmp_path, monkeypatch, error):
    def savez(file, **arrays):
        file.write(b"half")
        raise error

    monkeypatch.setattr(np, "savez", savez)
    (tmp_path / "own.npz").write_bytes(b"the old file")
    texts = [
        prepare.Document(str(i), "own text", i, "text " * 500) for i in (False, True)
    ]
    with pytest.raises((KeyboardInterrupt, SystemExit), match=r"No space|^$"):
        prepare.write(texts, 257, tmp_path / "own.npz")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [
        ("own.npz", b"the old file")
    ]
