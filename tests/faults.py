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
        "config.n_embd, generator=generator) * std",
        "config.n_embd) * std",
    ),
    "CLS the same for every seed": (
        "torch.initial_seed() + 10**6)\\n        std",
        "10**6)\\n        std",
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
    "gradients accumulate": ("                optimizer.zero_grad()\\n", ""),
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
    "broken download left behind": ("        part.unlink(missing_ok=True)", "        pass"),
    "not cropped to the context": ("idx[:, -model.config.block_size :]", "idx"),
    "temperature inverted": ("(best / temperature)", "(best * temperature)"),
    "loss check after the step": ("if not math.isfinite(history.step[-1]):", "if False:"),
    "arms see other batches": (
        "train(model, recipe, train_windows, held_out_windows, seed, label)",
        "train(model, recipe, train_windows, held_out_windows, seed + len(arm), label)",
    ),
    "frozen constant learns": ("model.cls.requires_grad_(False)", "model.cls.requires_grad_(True)"),
    "constant with a token in front": (
        "return GPT.hidden(self, idx) + self.cls",
        "return super().hidden(idx)",
    ),
    "split counts only inputs": ("logits[:, TINY.unique()]", "logits[:, TINY[:, 0].unique()]"),
    "interval of one spread": (
        "gaps.std(ddof=1) / math.sqrt(len(gaps))",
        "gaps.std() / math.sqrt(len(gaps))",
    ),
    "one-sided interval": ("np.interp(0.95, inside, angle)", "np.interp(0.90, inside, angle)"),
    "Holm without the maximum": ("np.maximum.accumulate(steps)", "steps"),
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
        f"tests/test_{name}.py" for name in ("model", "training", "bad_input", "causes", "data")
    ]
    result = subprocess.run([*command, *files], cwd=folder, capture_output=True, text=True)
    failures = [line for line in result.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
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
