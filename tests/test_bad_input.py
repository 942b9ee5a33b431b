"""Bad input gets a clear error at once: what was given, what was expected, what to do."""

import contextlib
import hashlib
import http.server
import pickle
import threading
import time

import numpy as np
import pytest
import torch
from build import DATA


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_embd": 30, "n_head": 8}, ["n_embd=30", "n_head=8", "multiple"]),
        *(
            ({name: value}, [f"{name}={value!r}", "whole number"])
            for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd")
            for value in (0, -3, 2.5, "8", True, None)
        ),
        ({"dropout": -0.1}, ["dropout=-0.1", "0 to below 1"]),
        ({"dropout": 1.0}, ["dropout=1.0", "0 to below 1"]),
        ({"dropout": 17}, ["dropout=17", "0 to below 1"]),
        ({"init": "zeros"}, ["init='zeros'", "gpt2", "pytorch"]),
    ],
)
def test_config(lesson, options, words):
    with pytest.raises(ValueError) as error:
        lesson.GPTConfig(**options)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    "options",
    [{"epochs": 0}, {"batch_size": -1}, {"learning_rate": 0.0}, {"learning_rate": float("inf")}],
)
def test_recipe(lesson, options):
    [(name, value)] = options.items()
    with pytest.raises(ValueError, match=rf"{name}={value}.*above 0"):
        lesson.Recipe(**options)


def test_readout(lesson, small):
    with pytest.raises(ValueError, match="readout='first': expected 'add' or 'drop'"):
        lesson.GPTWithCLS(small, readout="first")


@pytest.mark.parametrize("name", ["GPT", "GPTWithCLS"])
def test_ids(lesson, small, name):
    model = lesson.build(getattr(lesson, name), small, seed=0)
    for idx, words in (
        (torch.zeros(1, 13), ["13 tokens", "block_size", "Crop"]),
        (torch.zeros(1, 0), ["0 tokens", "expected 1 to 12"]),
        (torch.tensor([[3, 97]]), ["ids from 3 to 97", "0 to 96"]),
        (torch.tensor([[-1, 5]]), ["ids from -1 to 5", "0 to 96"]),
    ):
        with pytest.raises(ValueError) as error:
            model(idx.long())
        for word in words:
            assert word in str(error.value)


def test_text_too_short(lesson):
    for n in (0, 1, 64):
        with pytest.raises(ValueError, match=f"{n} tokens: need more than block_size=64"):
            lesson.windows([torch.arange(100), torch.arange(n)], 64)
    assert len(lesson.windows([torch.arange(65)], 64)) == 1


def test_generate(lesson, small):
    model = lesson.build(lesson.GPT, small, seed=0)
    idx = torch.zeros(1, 3, dtype=torch.long)
    with pytest.raises(ValueError, match=r"temperature=-1.*0 \(greedy\)"):
        lesson.generate(model, idx, 1, temperature=-1)
    with pytest.raises(ValueError, match=r"top_k=0.*at least 1"):
        lesson.generate(model, idx, 1, top_k=0)
    with pytest.raises(ValueError, match="0 tokens"):
        lesson.generate(model, idx[:, :0], 1)


def test_device(lesson, monkeypatch):
    monkeypatch.delenv("DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert lesson.devices() == ["cuda", "cpu", "mps"]  # MPS only if asked for
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert lesson.devices() == ["cpu", "mps"]
    assert lesson.switch("DEVICE", lesson.devices()) == "cpu"
    monkeypatch.setenv("DEVICE", "mps")
    assert lesson.switch("DEVICE", lesson.devices()) == "mps"


@pytest.mark.parametrize(
    ("name", "value", "choices"),
    [
        *(("DEVICE", value, ["cpu"]) for value in ("tpu", "CPU", "cuda", "cuda:9", "0")),
        *(("PRECISION", value, ["float32"]) for value in ("bfloat16", "float16", "32")),
        *(("PRECISION", value, ["bfloat16", "float32"]) for value in ("bf16", "BFLOAT16", "fp8")),
        *(("QUICK", value, ["0", "1"]) for value in ("yes", "true", "2", "-1")),
    ],
)
def test_switches(lesson, monkeypatch, name, value, choices):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError) as error:
        lesson.switch(name, choices)
    assert f"{name}={value}" in str(error.value) and str(choices) in str(error.value)
    monkeypatch.setenv(name, "")
    assert lesson.switch(name, choices) == choices[0]


def test_precisions(lesson, monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    for fast in ({"amx_bf16": True}, {"avx512_bf16": True, "amx_bf16": False}):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda fast=fast: fast)
        assert lesson.precisions(cpu) == ["bfloat16", "float32"]
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert lesson.precisions(cpu) == ["float32"]
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # as in older versions of torch
    assert lesson.precisions(cpu) == ["float32"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for capability, expected in (((7, 5), ["float32"]), ((8, 0), ["bfloat16", "float32"])):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda c=capability: c)
        assert lesson.precisions(cuda) == expected


def arrays():
    with np.load(DATA, allow_pickle=False) as file:
        return dict(file)


def write_truncated(path):
    path.write_bytes(DATA.read_bytes()[:100_000])


def write_altered(path):
    content = arrays()
    content["ids"][5] += 1  # well formed, but not the file that we mean
    np.savez(path, **content)


def write_pickle(path):
    path.write_bytes(pickle.dumps({"ids": [1, 2, 3]}))


def write_object_array(path):
    np.savez(path, **{**arrays(), "names": np.array(["a", None] * 19, dtype=object)})


def write_without_vocabulary(path):
    content = arrays()
    del content["vocab"]
    np.savez(path, **content)


def write_ids_beyond_vocabulary(path):
    content = arrays()
    content["ids"][5] = 65_535
    np.savez(path, **content)


def write_text(path):
    path.write_text("To be, or not to be", "utf-8")


@pytest.mark.parametrize(
    "write",
    [
        write_truncated,
        write_altered,
        write_pickle,
        write_object_array,
        write_without_vocabulary,
        write_ids_beyond_vocabulary,
        write_text,
        lambda path: path.write_bytes(b""),
        lambda path: path.mkdir(),
        lambda path: None,
    ],
)
def test_data_file(lesson, tmp_path, write):
    path = tmp_path / "shakespeare.npz"
    write(path)
    digests = [lesson.DATA_SHA256]
    if write is not write_altered:  # any well-formed file of the reader's own is welcome
        digests.append(None)
    for digest in digests:
        with pytest.raises(ValueError) as error:
            lesson.Corpus(path, digest)
        message = str(error.value)
        assert str(path) in message and len(message.splitlines()) <= 3
        for remedy in ("Delete data/shakespeare.npz", "data/prepare.py --text", "DATA_FILE"):
            assert remedy in message


@pytest.fixture
def server():
    """Serve the data file on this machine: right, slowly, cut short, altered, or not at all."""
    content = DATA.read_bytes()
    altered = content[:-1] + bytes([content[-1] ^ 1])

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = {"/right": content, "/short": content[:5000], "/altered": altered}
            body |= {"/slow": content, "/stalled": content}
            if self.path not in body:
                self.send_error(int(self.path[1:]))
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.path == "/stalled":
                time.sleep(1)
            with contextlib.suppress(ConnectionError):  # the client may have given up
                for start in range(0, len(body[self.path]), 500_000):
                    self.wfile.write(body[self.path][start : start + 500_000])
                    time.sleep(0.05 * (self.path == "/slow"))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.mark.parametrize("page", ["right", "slow"])
def test_download(lesson, server, tmp_path, capsys, page):
    path = tmp_path / "data" / "shakespeare.npz"
    lesson.download(f"{server}/{page}", path, lesson.DATA_SHA256)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == lesson.DATA_SHA256
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("page", ["short", "altered", "404", "500"])
def test_a_broken_download_leaves_nothing_behind(lesson, server, tmp_path, page):
    path = tmp_path / "data" / "shakespeare.npz"
    with pytest.raises(ConnectionError) as error:
        lesson.download(f"{server}/{page}", path, lesson.DATA_SHA256)
    assert list(path.parent.iterdir()) == []
    first, *rest = str(error.value).splitlines()
    assert f"{server}/{page}" in first and len(rest) == 2
    assert str(path) in rest[0] and "DATA_URL" in rest[1]


def test_a_server_that_stalls_is_given_up(lesson, server, tmp_path, monkeypatch):
    given, path = [], tmp_path / "shakespeare.npz"
    urlopen = lesson.urllib.request.urlopen

    def impatient(url, timeout):
        given.append(timeout)
        return urlopen(url, timeout=0.2)

    monkeypatch.setattr(lesson.urllib.request, "urlopen", impatient)
    with pytest.raises(ConnectionError, match="timed out"):
        lesson.download(f"{server}/stalled", path, lesson.DATA_SHA256)
    assert 0 < given[0] <= 60 and not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(lesson, server, tmp_path):
    (tmp_path / "data").write_text("a file, not a folder", "utf-8")
    path = tmp_path / "data" / "shakespeare.npz"
    with pytest.raises(ConnectionError, match=r"(?s)Could not download .*DATA_URL"):
        lesson.download(f"{server}/right", path, lesson.DATA_SHA256)


def test_no_network(lesson, tmp_path):
    path = tmp_path / "shakespeare.npz"
    with pytest.raises(ConnectionError, match="Connection refused"):
        lesson.download("http://127.0.0.1:1/shakespeare.npz", path, lesson.DATA_SHA256)
    with pytest.raises(ConnectionError, match="unknown url type"):
        lesson.download("nonsense", path, lesson.DATA_SHA256)
    assert list(tmp_path.iterdir()) == []
