"""Plant faults, one at a time, and see which tests notice.

    python tests/faults.py           # all, some twenty minutes of one core
    python tests/faults.py verdict   # those whose text contains a word

Each fault is planted in a copy of the project: in the notebook's definitions by the variable
FAULT, which tests/conftest.py reads, or in data/runs.py itself. Exits with 1 if one is missed.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCIENCE = ("test_model.py", "test_training.py", "test_study.py")

NOTEBOOK_FAULTS = [  # (text of the definitions, text in its place)
    ("masked_fill(~mask", "masked_fill(torch.zeros_like(mask)"),
    (" / math.sqrt(q.shape[-1])", ""),
    ("self.attn_dropout(weights) @ v", "weights @ v"),
    ("F.gelu(", "F.relu("),
    ("block.attn.mask[1:, 0] = seen", "block.attn.mask[1:, 0] = True"),
    ("return x + cls if self.added else x", "return x + cls"),
    ("shrink = math.sqrt(2 * config.n_layer)", "shrink = math.sqrt(config.n_layer)"),
    ("if config.cls_position:", "if False:"),
    ("torch.manual_seed(seed)\n    order", "order"),
    (
        "torch.randperm(len(data), generator=generator).split",
        "torch.arange(len(data)).split",
    ),
    ("optimizer.zero_grad()", "pass"),
    ("if recipe.clip:", "if False:"),
    ("vectors['weight_decay'] = 0.0", "pass"),
    ("schedule.step()", "pass"),
    ("(step + 1) / self.warm_up", "step / self.warm_up"),
    ("* len(batch) for batch", "* 32 for batch"),
    ("model.eval()\n    losses", "losses"),
    ("best = (best - best[:, :1]) / (temperature or 1)", "best = best - best[:, :1]"),
    ("idx[:, -model.config.block_size:]", "idx"),
    ("self.scale * self.bias", "self.bias"),
    ("constant = constant.norm() * F", "constant = F"),
    ("counts = counts + 1 / config.vocab_size", "counts = counts + 1"),
    (
        "model.lm_head.scale = ((state + constant).abs().sum() - state.abs().sum()).item()",
        "model.lm_head.scale = constant.abs().sum().item()",
    ),
    ("tokens[words] = tokens[words][order]", "pass"),
    ("model.added = True\n    if", "pass\n    if"),
    ("weights[:, :, 1:, 1].mean", "weights[:, :, :, 1].mean"),
    ("score = (place < 120, place >= 160)", "score = (place >= 0, place >= 160)"),
    ("features = {'mean': states[:, cls:]", "features = {'mean': states[:, 0:]"),
    ("norms = np.log(history.gradients)", "norms = np.asarray(history.gradients)"),
    ("4.773, 8: 4.029, 10: 3.69", "4.773, 8: 4.029, 10: 2.262"),
    ("if abs(mean) + half <= margin:", "if abs(mean) <= margin:"),
    ("if abs(mean) <= half:", "if abs(mean) <= half / 3:"),
    ("0.995 if gaps.ndim == 1 else 0.999", "0.995"),
    ("if not placebo or judge", "if placebo and judge"),
    (
        "seeds = REPORT if experiment == 'ten sentences' else range(100, 300)",
        "seeds = range(100, 300)",
    ),
    (
        "'documented': (BITS_PER_BYTE, 0.02)",
        "'documented': (BITS, 0.02)",
    ),
    ("counts[run] + kinds[past] * shorter", "counts[run] + shorter"),
    ("(final_loss(runs[2]) - final_loss(runs[0])) / 2", "final_loss(runs[2])"),
    ("options = {'fused': True} | options", "options = {}"),
    ("require('NaN' not in line and 'Infinity' not in line,", "require(True,"),
    ("require(name not in record,", "require(True,"),
    ("PLAYS.texts if name not in PLAYS.held_out]", "PLAYS.texts]"),
    ("isinstance(value, bool)", "False"),
    (
        "ids.unfold(0, size, step) for ids in texts",
        "ids.unfold(0, size, step - 1) for ids in texts",
    ),
    ("raise FloatingPointError(", "print("),
    (
        "history.held_out.append(evaluate(model, held_out_windows))\n        for _",
        "for _",
    ),
    ("nn.init.normal_(model.ln_f.bias)", "nn.init.normal_(model.ln_f.bias, std=0.1)"),
    ("requires_grad=learned", "requires_grad=True"),
    ("order = torch.Generator().manual_seed(seed)", "order = torch.default_generator"),
    ("std = 0.02 if config.init == 'gpt2' else 1.0", "std = 1.0"),
]
RUNS_FAULTS = [  # (text of data/runs.py, text in its place)
    (
        "            os.truncate(path, size)\n        raise",
        "            pass\n        raise",
    ),
    ("            part.body = part.body[1:] or [ast.Pass()]", "            pass"),
    (", repr(setting.recipe)]", "]"),
    ("        os.truncate(path, len(whole))", "        pass"),
    (
        'today == (made.get("certified", made["source"]), run["key"])',
        'today[0] == made.get("certified", made["source"])',
    ),
    ('made.get("certified", made["source"])', 'made["source"]'),
    ("if stale and not args.check:", "if False:"),
    ("with FileLock(", "import contextlib\n        with contextlib.nullcontext("),
    ('"the arm": [arms[arm]]', '"the arm": []'),
    ("todo |= {measure.__name__ for measure in setting.measures}", "pass"),
    ("allow_nan=False", "allow_nan=True"),
    ("if args.only and args.only not in lesson.EXPERIMENTS:", "if False:"),
]


def failed(project, tests, fault=None):
    """Return the names of the tests that fail in a copy of the project."""
    pytest = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "--tb=line"]
    run = subprocess.run(
        [*pytest, *(f"tests/{name}" for name in tests)],
        cwd=project,
        env=os.environ | ({"FAULT": "=>".join(fault)} if fault else {}),
        capture_output=True,
        text=True,
    )
    assert "times in the source" not in run.stdout, f"{fault} is not there once"
    found = re.findall(r"^(?:FAILED|ERROR) tests/\w+\.py::(\w+)", run.stdout, re.M)
    return sorted(set(found))


def main():
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        skip = shutil.ignore_patterns(".git", ".venv", "__pycache__")
        shutil.copytree(ROOT, project, ignore=skip)
        script = project / "data" / "runs.py"
        original = script.read_text("utf-8")
        for tests in (SCIENCE, ["test_runs.py"]):
            assert not failed(project, tests), "a test fails without any fault"
        for old, new in NOTEBOOK_FAULTS + RUNS_FAULTS:
            if word not in old + new:
                continue
            if (old, new) in RUNS_FAULTS:
                assert original.count(old) == 1, f"{old!r} is not there once"
                script.write_text(original.replace(old, new), "utf-8")
                names = failed(project, ["test_runs.py"])
                script.write_text(original, "utf-8")
            else:
                names = failed(project, SCIENCE, (old, new))
            missed += not names
            verdict = f"caught by {', '.join(names[:3])}" if names else "MISSED"
            print(f"{old!r} -> {new!r}: {verdict}", flush=True)
    return missed > 0


if __name__ == "__main__":
    sys.exit(main())
