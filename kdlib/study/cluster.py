"""A study's runs on a Dask cluster whose machines share a file system.

    dask scheduler
    dask worker tcp://host:8786 --nthreads 1 --memory-limit 0    # for each run at a time, on any machine
    python -m kdlib train --scheduler tcp://host:8786

A task is a study's parameters and a spec. The worker makes the same study and does what one process would:
locks, checkpoints and answers are files under ``runs/``, from where the client loads the results.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile

from kdlib.progress import progress_bar
from kdlib.study.interrupt import Stopped
from kdlib.study.runs import RunsFailed, RunStore
from kdlib.study.specs import Run, RunSpec

try:
    from distributed import Client, Future, as_completed, get_worker
except ImportError as error:
    raise RuntimeError(
        "a scheduler's address was given, but Dask isn't installed: pip install distributed"
    ) from error

RETRIES = 2  # of a run that fails, e.g. for want of memory beside others; lost workers are Dask's to count


class ClusterStore(RunStore):
    """The runs under one directory, of which a cluster's workers train what is missing.

    Args:
        scheduler: the address of Dask's scheduler, like ``tcp://host:8786``.
        make: with ``should_stop``, makes on a worker the study whose runs these are.
    """

    def __init__(self, scheduler: str, make: Callable, *options, **more):
        super().__init__(*options, **more)
        self.scheduler, self.make = scheduler, make

    def get(self, spec: RunSpec) -> Run:
        return self.get_each([spec])[0]

    def get_all(self, specs: Iterable[RunSpec], then: Callable[[Run], None] | None = None) -> Iterator[Run]:
        """All runs, in the order in which they are ready; with ``then``, finished ones are sent too.

        Workers keep the answers of every run that they get. When the caller leaves, what is queued is
        cancelled, and what is being trained stops at its next checkpoint.

        Raises:
            OSError: if no scheduler answers.
            RunsFailed, Stopped: as for :meth:`kdlib.study.runs.RunStore.get_all`.
        """
        left = {spec.id: spec for member in specs for spec in member.lineage()}
        for spec in [] if then else list(left.values()):
            if run := self.load(spec):
                del left[spec.id]
                yield run
        if left:
            yield from self._trained(list(left.values()))

    def _trained(self, specs: list[RunSpec]) -> Iterator[Run]:
        self.root.mkdir(parents=True, exist_ok=True)
        failed = []
        with (
            NamedTemporaryFile(dir=self.root.absolute(), prefix="client-") as seen,
            _connect(self.scheduler) as client,
            progress_bar(total=len(specs), desc="runs", unit="run", disable=self.quiet) as bar,
        ):
            futures = _submit(client, specs, self.make, seen.name)
            waiting = as_completed(futures, loop=client.loop)
            while not waiting.is_empty():
                if self.should_stop():
                    raise Stopped(f"stopped with {waiting.count()} of {len(specs)} runs to do")
                for future in waiting.next_batch(block=False):
                    spec = futures[future]
                    bar.set_postfix_str(spec.label, refresh=False)
                    bar.update()
                    run = self.load(spec) if future.status == "finished" else None
                    if run:
                        yield run
                    else:
                        error = future.exception() or f"{future.status}, but it is not under {self.root}"
                        failed.append(f"{spec.label}: {error}")
                        bar.write(f"failed: {failed[-1]}", file=sys.stderr)
                time.sleep(0.1)
        if failed:
            raise RunsFailed(f"{len(failed)} of {len(specs)} runs failed; the first: {failed[0]}")


def _connect(address: str) -> Client:
    try:
        return Client(address)
    except (OSError, ValueError) as error:
        raise OSError(
            f"no Dask scheduler answers at {address} ({error}): start one with `dask scheduler`, or leave "
            "the address out to train on this machine"
        ) from error


def _submit(client: Client, specs: list[RunSpec], *more) -> dict[Future, RunSpec]:
    """One task a run; where workers declare the resource "run", only they are given any."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    resources = {"run": 1} if any("run" in worker["resources"] for worker in workers) else None
    tasks = {}
    for spec in specs:  # teachers first
        teacher = tasks.get(spec.teacher.id) if spec.teacher else None
        options = {"key": f"{spec.method}-{spec.id}-{client.id}", "retries": RETRIES, "resources": resources}
        tasks[spec.id] = client.submit(_work, spec, teacher, *more, **options)
    return {tasks[spec.id]: spec for spec in specs}


# ------------------------------------------------------------------------------------- on the workers


def _work(spec: RunSpec, teacher: None, make: Callable, seen: str) -> None:
    """Get a run and keep its answers; its teacher's task is an argument so that it comes first."""
    worker = get_worker()
    try:
        if worker.state.nthreads > 1:
            raise RuntimeError("runs in threads would share a random generator; start it with --nthreads 1")
        if not Path(seen).exists():
            raise RuntimeError(f"{Path(seen).parent} isn't the client's; give an --output that both can see")
        study = make(should_stop=_unwanted)
        if replace(spec).id != spec.id:  # which is told anew
            raise RuntimeError("the file that methods_from names has changed since the study began")
        study.ask_all(study.store.get(spec))
    except Exception as error:
        raise RuntimeError(f"worker {worker.address}: {error}") from error


def _unwanted() -> bool:
    """Whether the client has left, or cancelled what this worker is doing."""
    worker = get_worker()
    return worker.state.tasks[worker.get_current_task()].state == "cancelled"
