"""Plant faults into a copy of the project, one at a time, and show which test catches each.

    python tests/faults.py          # all of them, some minutes
    python tests/faults.py mask     # those whose name contains "mask"

Exits with 1 if a fault goes unnoticed.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from build import NOTEBOOK, ROOT

FAULTS = {  # name: (what the notebook says, what the fault makes of it)
    "mask removed": (".masked_fill(future, -math.inf)", ""),
    "mask one step too late": ("triu(diagonal=1)", "triu(diagonal=2)"),
    "mask hides the token itself": ("triu(diagonal=1)", "triu(diagonal=0)"),
    "scores not scaled": (" / math.sqrt(D)  # (..., T, T)", ""),
    "scale by D": ("k.transpose(-2, -1) / math.sqrt(D)", "k.transpose(-2, -1) / D"),
    "heads not transposed back": ("y.transpose(1, 2).reshape(B, T, C)", "y.reshape(B, T, C)"),
    "keys and values swapped": ("q, k, v = (part.view", "q, v, k = (part.view"),
    "attention dropout missing": ("self.attn_dropout(weights) @ v", "weights @ v"),
    "GELU replaced by ReLU": ("F.gelu(", "F.relu("),
    "LayerNorm after the MLP": ("x + self.mlp(self.ln_2(x))", "self.ln_2(x + self.mlp(x))"),
    "residual missing": ("x = x + self.attn(self.ln_1(x))", "x = self.attn(self.ln_1(x))"),
    "last LayerNorm missing": (
        "return self.ln_f(nn.Sequential(self.drop, *self.h)(x))",
        "return nn.Sequential(self.drop, *self.h)(x)",
    ),
    "weights tied": (
        "        if config.init ==",
        "        self.lm_head.weight = self.wte.weight\\n        if config.init ==",
    ),
    "residual projections not scaled": ('if "c_proj" in name else 1', 'if "none" in name else 1'),
    "positions shifted": ("self.wpe.weight[:T]", "self.wpe.weight[:T].roll(1, 0)"),
    "CLS takes the first position": (
        "self.embed(idx)], dim=1)  # (B, 1 + T, C)",
        "self.wte(idx) + self.wpe.weight[: idx.shape[1]].roll(-1, 0)], dim=1)",
    ),
    "CLS position kept in the loss": (
        "cls, x = x[:, :1], x[:, 1:]",
        "cls, x = x[:, :1], x[:, :-1]",
    ),
    "readouts swapped": ('if self.readout == "add" else x', 'if self.readout == "drop" else x'),
    "CLS appended": (
        "torch.cat([cls.expand(len(idx), 1, -1), self.embed(idx)], dim=1)",
        "torch.cat([self.embed(idx), cls.expand(len(idx), 1, -1)], dim=1)",
    ),
    "CLS drawn from the global generator": (
        "torch.randn(2, config.n_embd, generator=generator)",
        "torch.randn(2, config.n_embd)",
    ),
    "CLS the same for every seed": (
        "torch.initial_seed() + 10**6)",
        "10**6)",
    ),
    "target shift off by one": (
        "yield data[rows, :-1], data[rows, 1:]",
        "yield data[rows, :-1], data[rows, :-1]",
    ),
    "no new order": (
        "torch.randperm(len(data), generator=generator)",
        "torch.arange(len(data))",
    ),
    "generator shared": (
        "torch.randperm(len(data), generator=generator)",
        "torch.randperm(len(data))",
    ),
    "dropout on in evaluation": ("    model.eval()\\n    try:", "    try:"),
    "mode not restored": ("model.train(mode)", "pass"),
    "mean of batch means": ("[1] * len(w) for w in", "[1] * batch_size for w in"),
    "gradients accumulate": ("    optimizer.zero_grad()\\n", ""),
    "no seed for dropout": ("    torch.manual_seed(seed)  # dropout\\n", ""),
    "windows overlap": ("stride or block_size) for", "stride or block_size - 1) for"),
    "windows cross texts": (
        "torch.cat([ids.unfold(0, block_size + 1, stride or block_size) for ids in texts])",
        "torch.cat(texts).unfold(0, block_size + 1, stride or block_size)",
    ),
    "checksum not compared": ("require(digest in (None, found)", "require(True"),
    "pickles allowed": ("allow_pickle=False", "allow_pickle=True"),
    "download not checked": (
        "require(hashlib.sha256(part.read_bytes()).hexdigest() == digest",
        "require(True",
    ),
    "broken download left behind": (
        "    finally:\\n        if part.exists",
        "    finally:\\n        if not part.exists",
    ),
    "not cropped to the context": ("idx[:, -model.config.block_size :]", "idx"),
    "temperature inverted": ("(best / (temperature or 1))", "(best * temperature)"),
    "greedy draws": (" if temperature else 1\\n", "\\n"),
    "a loss that is not finite goes on": ("if not loss.isfinite():", "if False:"),
    "a stopped run is lost": ("except KeyboardInterrupt:", "except ZeroDivisionError:"),
    "a stopped sweep goes on": ("stopped = history.stopped  #", "stopped = False  #"),
    "epoch mean of the run so far": ("history.step[bar.n - n : bar.n]", "history.step[: bar.n]"),
    "gradient norm clips": ("max_norm=math.inf", "max_norm=1e-3"),
    "weights in bfloat16": ("torch.autocast(DEVICE.type,", "torch.autocast('meta',"),
    "arms see other batches": (
        "held_out_windows, seed, label, stopped)",
        "held_out_windows, seed + len(arm), label, stopped)",
    ),
    "frozen constant learns": (", requires_grad=learned)", ")"),
    "constant with a token in front": (
        "return super().hidden(idx) + self.cls",
        "return super().hidden(idx)",
    ),
    "split counts only inputs": ("logits[:, TINY.unique()]", "logits[:, TINY[:, 0].unique()]"),
    "interval of one spread": ("gaps.mean(), gaps.std(ddof=1), s", "gaps.mean(), gaps.std(), s"),
    "one-sided interval": ("np.interp(0.95, inside, angle)", "np.interp(0.90, inside, angle)"),
    "Holm without the maximum": ("np.maximum.accumulate(steps)", "steps"),
    "margin ignores the interval": ("if abs(mean) + half <= margin:", "if abs(mean) <= margin:"),
    "a claim needs one test only": ("if any(word not in (wanted", "if all(word not in (wanted"),
    "open counts as supported": (
        '"not resolved" if "not resolved" in words',
        '"" if "" in words[1:]',
    ),
    "probe scored where it learned": ("[place >= 0.8]", "[place < 0.6]"),
    "probe learns what it is scored on": ("place < 0.6\\n", "place < 2\\n"),
    "constant features keep their rounding": (".round(decimals=3)", ""),
    "recall counts ties in full": (
        "(best.diagonal() / best.sum(dim=1))",
        "best.diagonal().float()",
    ),
    "attention read after dropout": ("maps.append(x[0])", "maps.append(out * 2)"),
    "weight of queries that cannot see": ("maps[..., position:, position]", "maps[..., position]"),
    "difference the wrong way": (
        'held_out["published"] - held_out["vanilla"]',
        'held_out["vanilla"] - held_out["published"]',
    ),
    "a run's key without its seed": ("[seed, arms[arm], *made_by]", "[arms[arm], *made_by]"),
    "a run's key without its data": ("if isinstance(thing, torch.Tensor):", "if False:"),
    "a foreign run is trusted": ('found.pop("name") == path.name', 'found.pop("name")'),
    "a run is unpickled": ("weights_only=True", "weights_only=False"),
    "stopped runs are kept": ("if not history.stopped:", "if True:"),
    "conclusion ignores the numbers": ("if share > 0.5]", "if change]"),
}


def plant(folder, old, new):
    """Replace the one occurrence of `old` in the notebook of the project copied to `folder`."""
    path = folder / NOTEBOOK.name
    notebook = json.loads(path.read_text("utf-8"))
    old, new = (text.replace("\\n", "\n") for text in (old, new))
    found = 0
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and old in source:
            found += source.count(old)
            cell["source"] = source.replace(old, new)
    if found != 1:
        raise SystemExit(f"{old!r} stands {found} times in the notebook, expected once")
    path.write_text(json.dumps(notebook), "utf-8")


def first_failure(folder):
    """Run the tests of the definitions; return the first that fails, or None."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider"]
    files = [
        f"tests/test_{name}.py"
        for name in ("model", "training", "many", "claims", "causes", "bad_input", "data")
    ]
    result = subprocess.run([*command, *files], cwd=folder, capture_output=True, text=True)
    failures = [line for line in result.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if result.returncode == 2:  # an interrupt that the notebook should have caught
        return "stopped by KeyboardInterrupt"
    if result.returncode and not failures:
        raise SystemExit(result.stdout + result.stderr)
    return failures[0].split(" - ")[0] if failures else None


def main():
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    unnoticed = 0
    for name, (old, new) in FAULTS.items():
        if wanted not in name:
            continue
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "project"
            ignore = shutil.ignore_patterns(".venv", ".git", "__pycache__", "*.html")
            shutil.copytree(ROOT, folder, ignore=ignore)
            plant(folder, old, new)
            caught = first_failure(folder)
        unnoticed += caught is None
        print(f"{name:36} {caught or 'NOT NOTICED'}", flush=True)
    sys.exit(unnoticed > 0)


if __name__ == "__main__":
    main()
