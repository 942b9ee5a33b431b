"""Make the record of the study: every run of the notebook's EXPERIMENTS, a line each.

    python data/runs.py                        # what is not in data/runs.jsonl yet
    python data/runs.py --only bytes           # one experiment
    python data/runs.py --check 5              # do five recorded runs again, and compare
    python data/runs.py --scheduler tcp://…    # on a Dask cluster that exists

Runs go to a local Dask cluster of one-thread workers. Each finished run is appended at once, so
that the script can be stopped and started again. What a run is, the notebook alone says.
"""

import argparse
import ast
import functools
import hashlib
import json
import os
import platform
import random
import sys
import time
import types
from pathlib import Path

import dask
from distributed import Client, as_completed
from filelock import FileLock, Timeout
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "R_11_CLS_TOKEN_IN_GPT.ipynb"
RECORD = ROOT / "data" / "runs.jsonl"
# How a local worker starts: quiet, on one thread, and keeping the memory that it frees, since to
# fetch memory for the gradients anew at every update takes as long again.
WORKER = {
    "TQDM_DISABLE": 1,
    "OMP_NUM_THREADS": 1,
    "MALLOC_TRIM_THRESHOLD_": 2**30,
    "MALLOC_MMAP_THRESHOLD_": 2**30,
}


def definitions(notebook=NOTEBOOK):
    """Return the source of the notebook's definitions: imports, functions, classes, CONSTANTS."""
    cells = json.loads(Path(notebook).read_text("utf-8"))["cells"]
    tree = ast.parse(
        "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    )
    return "\n\n".join(ast.unparse(node) for node in tree.body if defined(node))


def defined(node):
    """Return the names that a statement defines: functions, classes and CONSTANTS."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = []
    if isinstance(node, ast.Assign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        targets = [n for t in targets for n in getattr(t, "elts", [t])]
    names = [getattr(target, "id", "") for target in targets]
    return names if all(n.isupper() and len(n) > 1 for n in names) else []


def load(source):
    """Return a module made of the definitions, once a process."""
    name = "lesson_" + hashlib.sha256(source.encode()).hexdigest()[:16]
    if name not in sys.modules:
        module = sys.modules[name] = types.ModuleType(name)  # dataclasses look it up
        try:
            exec(compile(source, name, "exec"), vars(module))
        except BaseException:
            del sys.modules[name]  # half of it is none
            raise
    return sys.modules[name]


@functools.cache
def checksum(source, experiment, arm):
    """Checksum of all the code that a run reaches, comments and docstrings aside."""
    lesson, nodes = load(source), {}
    for node in ast.parse(source).body:
        for name in defined(node):
            nodes.setdefault(name, []).append(node)
    literals = [node.value for node in nodes.pop("ARMS")]
    arms = {k.value: v for d in literals for k, v in zip(d.keys, d.values, strict=True)}
    setting = lesson.EXPERIMENTS[experiment]
    nodes |= {"EXPERIMENTS": [], "the arm": [arms[arm]]}
    reached, todo = {}, {"run", "GPTConfig", "Recipe", "the arm", setting.data.__name__}
    todo |= {measure.__name__ for measure in setting.measures}
    while todo:
        name = todo.pop()
        reached[name] = [without_docstrings(node) for node in nodes[name]]
        used = {
            part.id
            for n in nodes[name]
            for part in ast.walk(n)
            if isinstance(part, ast.Name)
        }
        todo |= (used & nodes.keys()) - reached.keys()
    return hashlib.sha256(json.dumps(reached, sort_keys=True).encode()).hexdigest()[:16]


def without_docstrings(node):
    """Return a node's code without its docstrings."""
    node = ast.parse(ast.unparse(node))
    for part in ast.walk(node):
        if (
            isinstance(part, ast.FunctionDef | ast.ClassDef)
            and ast.get_docstring(part) is not None
        ):
            part.body = part.body[1:] or [ast.Pass()]
    return ast.unparse(node)


def key(lesson, experiment, arm, seed):
    """Checksum of a run's parameters and data."""
    setting = lesson.EXPERIMENTS[experiment]
    parts = [experiment, arm, seed, repr(setting.config), repr(setting.recipe)]
    return hashlib.sha256(
        json.dumps([*parts, lesson.PLAYS_SHA256]).encode()
    ).hexdigest()[:16]


def rounded(value):
    """Return `value` with every float in it rounded to six digits."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def work(source, device, experiment, arm, seed):
    """Do one run, on a worker; return its line of the record."""
    lesson = load(source)
    lesson.DEVICE = lesson.torch.device(device)
    lesson.torch.set_num_threads(1)
    start = time.perf_counter()
    _, results = lesson.run(experiment, arm, seed)
    made = {"python": platform.python_version(), "torch": lesson.torch.__version__}
    made |= {"device": device, "processor": processor(), "threads": 1}
    made["seconds"] = time.perf_counter() - start
    line = {"experiment": experiment, "arm": arm, "seed": seed}
    return rounded(
        line | {"key": key(lesson, experiment, arm, seed)} | results | {"made": made}
    )


def processor():
    """Return the processor's name as far as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [
        line.split(":")[1].strip() for line in lines if line.startswith("model name")
    ]
    return names[0] if names else platform.processor()


def read(lesson, path=RECORD):
    """Return {(experiment, arm, seed): run}; a last line that was torn off is cut off first."""
    if not path.exists():
        return {}
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        print(f"{path.name}: the last line was torn off; its run is done again.")
        os.truncate(path, len(whole))
    return lesson.read_record(path)


def append(line, path=RECORD):
    """Append a run to the record, whole or not at all. OSError if the disk is full."""
    size = path.stat().st_size if path.exists() else 0
    try:
        with open(path, "a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        if path.exists():
            os.truncate(path, size)
        raise


def compute(client, source, device, jobs):
    """Yield the line of each job that was done; say which failed, and why."""
    futures = {
        client.submit(work, source, device, *job, pure=False): job for job in jobs
    }
    done = as_completed(futures, with_results=True, raise_errors=False)
    for future, line in tqdm(done, total=len(jobs), unit="run", file=sys.stdout):
        if future.status == "finished":
            yield line
        else:
            tqdm.write(
                f"{futures[future]} failed: {future.exception()!r}", file=sys.stdout
            )


def check(line, old):
    """Print whether a run done again agrees with the record; return True if in every digit."""
    old, new = ({k: v for k, v in run.items() if k != "made"} for run in (old, line))
    pairs = zip(old["held_out"], new["held_out"], strict=False)
    gap = max(abs(a - b) for a, b in pairs)
    verdict = (
        "agrees in every digit"
        if old == new
        else f"DIFFERS, by {gap:.2g} nats held out"
    )
    tqdm.write(
        f"{old['experiment']}, {old['arm']}, seed {old['seed']}: {verdict}", sys.stdout
    )
    return old == new


def certify(record, jobs, source, path=RECORD):
    """Note in some runs that today's definitions give them; the file is replaced as a whole."""
    for job in jobs:
        record[job]["made"]["certified"] = checksum(source, *job[:2])
    part = path.with_suffix(".part")
    part.write_text("".join(json.dumps(run) + "\n" for run in record.values()), "utf-8")
    part.replace(path)


def known(lesson, experiment, arm):
    """True if the notebook still has an experiment and an arm."""
    return experiment in lesson.EXPERIMENTS and arm in lesson.ARMS


def fits(source, run):
    """True if today's definitions, parameters and data are those that made a run."""
    lesson, made = load(source), run["made"]
    job = run["experiment"], run["arm"], run["seed"]
    today = known(lesson, *job[:2]) and (
        checksum(source, *job[:2]),
        key(lesson, *job),
    )
    return today == (made.get("certified", made["source"]), run["key"])


def grid(lesson, only):
    """Every run of the study, or of one experiment: (experiment, arm, seed)."""
    return [
        (experiment, arm, seed)
        for experiment, setting in lesson.EXPERIMENTS.items()
        for seed in sorted(set().union(*setting.seeds.values()))
        for arm, seeds in setting.seeds.items()
        if seed in seeds and only in (None, experiment)
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--only", metavar="EXPERIMENT", help="one experiment instead of all"
    )
    parser.add_argument(
        "--check", type=int, metavar="N", help="do N recorded runs again"
    )
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or mps")
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="a Dask scheduler that runs"
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="local processes"
    )
    args = parser.parse_args()
    if args.workers < 1 or (args.check is not None and args.check < 1):
        parser.error("--workers and --check: expected a whole number above 0")
    os.chdir(ROOT)
    source = definitions()
    lesson = load(source)
    if args.only and args.only not in lesson.EXPERIMENTS:
        parser.error(f"--only {args.only}: choose one of {list(lesson.EXPERIMENTS)}")
    try:
        lesson.torch.zeros(1, device=args.device)
    except (RuntimeError, AssertionError) as error:
        parser.error(f"--device {args.device}: not on this machine ({error})")
    try:
        with FileLock(RECORD.with_suffix(".lock"), timeout=0):
            return make(args, source, lesson)
    except Timeout:
        return (
            f"{RECORD.name} is being written by another data/runs.py: wait for its end."
        )
    except ValueError as error:  # a line of the record
        return str(error)
    except OSError as error:
        return f"{error}. Every finished run is in {RECORD}; start again to go on."
    except KeyboardInterrupt:
        print(f"stopped; every finished run is in {RECORD.name}, start again to go on")
        return 130


def make(args, source, lesson):
    """Do what was asked for; return the exit status, or what went wrong."""
    record = read(lesson)
    stale = [job for job, run in record.items() if not fits(source, run)]
    if stale and not args.check:
        return (
            f"{len(stale)} runs, {stale[0]} first, were made by other definitions, parameters "
            "or data.\nIf nothing changed that a run depends on, --check 5 certifies them; "
            "otherwise delete their lines."
        )
    if args.check:
        recorded = [job for job in record if args.only in (None, job[0])]
        recorded = [job for job in recorded if known(lesson, *job[:2])]
        due = [job for job in recorded if job in stale]
        jobs = due or recorded  # those that need it first
        jobs = random.sample(jobs, min(args.check, len(jobs)))
        if not jobs:
            return "no run of that is recorded: there is nothing to check"
    else:
        jobs = [job for job in grid(lesson, args.only) if job not in record]
    dask.config.set({"distributed.nanny.pre-spawn-environ": WORKER})
    cluster = {"n_workers": args.workers, "threads_per_worker": 1}
    cluster |= {"memory_limit": 0, "dashboard_address": ":0"}
    if args.scheduler:
        cluster = {"address": args.scheduler}
    done, differ = 0, 0
    with Client(**cluster) as client:  # starts a local cluster if it gets no address
        if set(client.nthreads().values()) - {1}:  # they would share one random stream
            return "a worker has several threads: start dask worker with --nthreads 1"
        for line in compute(client, source, args.device, jobs):
            done += 1
            job = line["experiment"], line["arm"], line["seed"]
            line["made"]["source"] = checksum(source, *job[:2])
            if not args.check:
                append(line)
            elif not check(line, record[job]):
                differ += 1
    if done < len(jobs):
        return f"{len(jobs) - done} runs failed"
    if differ:
        return f"{differ} of {done} runs differ from the record"
    if args.check and due:
        certify(record, due, source)
    return 0


if __name__ == "__main__":
    sys.exit(main())
