"""Make the record of the study, data/runs.jsonl: a line for each run of the notebook.

    python data/runs.py                        # what the protocol asks for and lacks
    python data/runs.py --only bytes           # experiments whose names start so
    python data/runs.py --check 5              # do five recorded runs again, compare
    python data/runs.py --scheduler tcp://…    # on a Dask cluster that exists

Each finished run is appended at once: the script can be stopped and started again.
"""

import argparse
import hashlib
import json
import logging
import os
import platform
import random
import signal
import sys
import time
import types
from contextlib import nullcontext
from pathlib import Path

import dask
import record
import torch
from distributed import Client, as_completed, get_worker
from filelock import FileLock, Timeout
from record import JOB, NOTEBOOK, RECORD, ROOT, definitions
from tqdm import tqdm

LOCK = FileLock(RECORD.with_suffix(".lock"), timeout=0)
affinity = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
CORES = len(affinity(0))  # that this process may use
# Workers keep the memory that they free, since to fetch memory for the gradients anew
# at every update takes as long again.
WORKER = {"TQDM_DISABLE": 1, "OMP_NUM_THREADS": 1}
WORKER |= {"MALLOC_TRIM_THRESHOLD_": 2**30, "MALLOC_MMAP_THRESHOLD_": 2**30}


def load(source):
    """Return a module made of the definitions, once a process."""
    name = "lesson_" + hashlib.sha256(source.encode()).hexdigest()[:16]
    if name not in sys.modules:
        module = types.ModuleType(name)
        module.SOURCE = source  # for checksums
        exec(compile(source, name, "exec"), vars(module))
        sys.modules[name] = module
    return sys.modules[name]


def work(source, sha256, device, experiment, arm, seed):
    """Return the results of a run, on a worker. OSError if this worker must do none."""
    torch.set_num_threads(1)
    if (threads := get_worker().state.nthreads) > 1:  # they would share a random stream
        remedy = "start it with: dask worker ADDRESS --nthreads 1"
        raise OSError(f"a worker has {threads} threads, {remedy}")
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise OSError(f"a worker has no {device}: {error}".splitlines()[0]) from None
    plays = Path("data", "shakespeare.npz")  # from the folder where the worker started
    if not plays.exists() or hashlib.sha256(plays.read_bytes()).hexdigest() != sha256:
        remedy = "start it in a folder with this project's"
        raise OSError(f"a worker's {plays} is missing or of other content, {remedy}")
    lesson = load(source)
    lesson.DEVICE, start = torch.device(device), time.perf_counter()
    _, results = lesson.run(lesson.EXPERIMENTS[experiment], lesson.ARMS[arm], seed)
    seconds, info = time.perf_counter() - start, Path("/proc/cpuinfo")
    model = info.read_text().partition("model name")[2] if info.exists() else ""
    processor = model.split("\n")[0].strip("\t :") or platform.processor()
    gpu = {"gpu": torch.cuda.get_device_name()} if device == "cuda" else {}
    made = {"python": platform.python_version(), "torch": torch.__version__}
    made |= {"device": device, **gpu, "processor": processor}
    made |= {"threads": torch.get_num_threads(), "seconds": seconds}
    text = json.dumps(results | {"made": made}, allow_nan=False)
    return json.loads(text, parse_float=lambda number: float(f"{float(number):.6g}"))


def compute(args, lesson, todo):
    """Yield the line of each run that `todo()` lists, until all are done or failed."""
    if not todo():
        return
    dask.config.set({"distributed.nanny.pre-spawn-environ": WORKER})
    cluster = {"n_workers": args.workers, "threads_per_worker": 1, "memory_limit": 0}
    cluster |= {"dashboard_address": ":0", "silence_logs": logging.CRITICAL}
    cluster = {"address": args.scheduler} if args.scheduler else cluster
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    pending, tried, refused = {}, set(), False
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # workers inherit this
    client = Client(**cluster)
    signal.signal(signal.SIGINT, handler)
    with client, tqdm(unit="run", file=sys.stdout) as bar:
        client.wait_for_workers(1)
        done = as_completed(with_results=True, raise_errors=False)
        while True:
            single = [w for w, threads in client.nthreads().items() if threads == 1]
            where = {"workers": single, "allow_other_workers": True} if single else {}
            jobs = [] if refused else [job for job in todo() if job not in tried]
            bar.total = bar.n + len(pending) + len(jobs)
            free = max(len(single), 1) - len(pending)
            for job in jobs[: max(free, 0)]:
                task = work, lesson.SOURCE, lesson.PLAYS_SHA256, args.device, *job
                future = client.submit(*task, pure=False, **where)
                pending[future] = job
                tried.add(job)
                done.add(future)
            if not pending:
                return
            future, results = next(done)
            job = pending.pop(future)
            bar.update()
            if future.status == "finished":
                line = dict(zip(("experiment", "arm", "seed"), job, strict=True))
                line |= {"key": record.key(lesson, *job)} | results
                line["made"]["source"] = record.checksum(lesson, *job[:2])
                yield line
            else:
                error = future.exception() or OSError("the scheduler has lost it")
                bar.write(f"{job} failed: {type(error).__name__}: {error}", sys.stdout)
                refused |= isinstance(error, OSError)  # that worker would refuse all


def make(args, lesson, only):
    """Do all runs that are asked for and not recorded."""
    open(RECORD, "ab").close()  # an error, if any, comes before the first run
    runs, size = record.read(lesson)
    if RECORD.stat().st_size > size:
        print(f"{RECORD.name}: the last line was torn off; its run is done again.")
        os.truncate(RECORD, size)
    recorded = [run for job, run in runs.items() if record.known(lesson, job)]
    if stale := [JOB(run) for run in recorded if not record.fits(lesson, run)]:
        raise ValueError(
            f"{len(stale)} runs, {stale[0]} first, were made by other definitions, "
            "parameters or data.\nIf nothing changed that a run depends on, --check 5 "
            "certifies them; otherwise delete their lines."
        )

    def todo():
        jobs = dict.fromkeys(lesson.asked(runs)[0])
        return [job for job in jobs if job not in runs and job[0].startswith(only)]

    for line in compute(args, lesson, todo):
        record.append(line)
        runs[JOB(line)] = line
    for sentence in lesson.asked(runs)[1]:
        print(sentence)
    if todo():
        raise ValueError(f"{len(todo())} runs were not done: start again to go on.")


def check(args, lesson, only):
    """Do some recorded runs again, stale ones first; certify these if all agree."""
    runs, _ = record.read(lesson)
    jobs = [job for job in runs if record.known(lesson, job)]
    jobs = [job for job in jobs if job[0].startswith(only)]
    if not jobs:
        raise ValueError("No run of that is recorded: there is nothing to check.")
    stale = [job for job in jobs if not record.fits(lesson, runs[job])]
    random.shuffle(jobs)
    jobs = sorted(jobs, key=lambda job: job not in stale)[: args.check]
    agree = 0
    with LOCK if stale else nullcontext():
        if stale:
            open(RECORD, "ab").close()  # can it be certified?
        for line in compute(args, lesson, lambda: jobs):
            words, same = record.compare(runs[JOB(line)], line)
            tqdm.write("{}, {}, seed {}: {}".format(*JOB(line), words), sys.stdout)
            agree += same
        if bad := len(jobs) - agree:
            raise ValueError(f"{bad} of {len(jobs)} runs do not agree, or failed.")
        mine = {job for job in stale if runs[job]["key"] == record.key(lesson, *job)}
        if mine:
            record.certify(lesson, mine)
            print(f"certified: {len(mine)} runs")


def main():
    """Do what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    option = parser.add_argument
    option("--only", nargs="+", metavar="NAME", help="experiments that start with NAME")
    option("--check", type=int, metavar="N", help="do N recorded runs again")
    option("--device", default="cpu", choices=("cpu", "cuda", "mps"))
    option("--scheduler", metavar="ADDRESS", help="a Dask scheduler that runs")
    option("--workers", type=int, default=CORES, help="local processes")
    args = parser.parse_args()
    if args.workers < 1 or (args.check is not None and args.check < 1):
        parser.error("--workers and --check: expected a whole number above 0")
    if args.device == "cpu" and not args.scheduler and args.workers > CORES:
        parser.error(f"--workers {args.workers}: this process may use {CORES} cores")
    os.chdir(ROOT)  # where the notebook's paths start
    try:
        lesson = load(definitions())
    except Exception as error:
        print(f"{NOTEBOOK.name} can't be used: {type(error).__name__}: {error}")
        return 1
    for name in args.only or []:
        if not any(known.startswith(name) for known in lesson.EXPERIMENTS):
            parser.error(f"--only {name}: no experiment's name starts like that")
    job, lock = (check, nullcontext()) if args.check else (make, LOCK)
    try:
        with lock:
            job(args, lesson, tuple(args.only or [""]))
        return 0
    except Timeout:
        print(f"Another data/runs.py is writing {RECORD.name}: wait for its end.")
    except OSError as error:
        print(f"{error}. Every finished run is in {RECORD.name}; start again to go on.")
    except ValueError as error:
        print(error)
    except KeyboardInterrupt:
        print(f"stopped; every finished run is in {RECORD.name}, start again to go on")
        return 130
    return 1


if __name__ == "__main__":
    sys.exit(main())
