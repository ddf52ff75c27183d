"""How processes that train together start and end; nothing here imports keras.

What cannot train together is refused before anything starts.
"""

import contextlib
import os
import re
import sys
import threading
import traceback
from dataclasses import dataclass

from stm_keras.errors import StmKerasError, UsageError
from stm_keras.signals import end_process

KINDS = ("devices", "processes")
LOOPBACK = "127.0.0.1"  # which no other machine can reach
SHUTDOWN_SECONDS = 10.0  # that a failing process waits for others that end as well
KERAS = ("PROCESS_ID", "NUM_PROCESSES", "JOB_ADDRESSES")  # each after KERAS_DISTRIBUTION_
TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
SLURM = ("PROCID", "NTASKS", "STEP_NODELIST", "JOB_ID")  # each after SLURM_


@dataclass(frozen=True)
class Launch:
    """One of the processes that train together."""

    rank: int  # number of this process, from 0
    world: int  # number of processes
    local_rank: int  # number of this process among those of its machine
    address: str  # host:port at which the first process answers

    @property
    def here(self):
        """Whether all are on this machine, so that no other needs to reach them: bool."""
        host = self.address.rpartition(":")[0].strip("[]")
        return host == "localhost" or host == "::1" or host.startswith("127.")


def check_parallel(kind, backend, model, jit_compile="auto", environ=os.environ):
    """Return the `Launch` of `kind` "processes", None of "devices" and None."""
    if kind is None:
        return None
    if model == "trees":
        raise UsageError(
            "`--parallel` shares the steps of a network among devices, and "
            "model.name=trees has none. Leave it out: trees use all processors."
        )
    if kind == "devices" and backend == "torch":
        raise UsageError(
            "`--parallel devices`: torch trains on one device a process. Use `--parallel "
            "processes` and start one for each device, with `torchrun --nproc-per-node=2 "
            "-m stm_keras train ...` or `srun --ntasks=2 stm-keras train ...`."
        )
    if kind == "processes" and backend == "tensorflow":
        raise UsageError(
            "`--parallel processes`: Keras cannot fit over several processes under "
            "TensorFlow (keras issue 20585). Use `--parallel devices` for the GPUs of one "
            "machine, or several processes with --backend jax or torch."
        )
    if backend == "torch" and jit_compile is True:
        raise UsageError(
            "`--parallel processes` shares gradients that torch compiles away under "
            "train.jit_compile=true. Leave that setting out."
        )
    return find_launch(environ) if kind == "processes" else None


def find_launch(environ=os.environ):
    """Read how this process was launched: by hand, by torchrun, or by srun."""
    local = environ.get("LOCAL_RANK", "0")
    if "KERAS_DISTRIBUTION_NUM_PROCESSES" in environ:
        rank, world, addresses = _read(environ, "KERAS_DISTRIBUTION_", KERAS)
        address = addresses.split(",")[0]
    elif "WORLD_SIZE" in environ:
        rank, world, host, port = _read(environ, "", TORCHRUN)
        if environ.get("LOCAL_WORLD_SIZE") == world:
            host = LOOPBACK
        address = f"{host}:{port}"
    elif int(environ.get("SLURM_NTASKS", 1)) > 1:
        if "SLURM_STEP_NODELIST" not in environ:
            raise UsageError(
                "`--parallel processes`: this job has "
                f"{environ['SLURM_NTASKS']} tasks, and this process is none of them. "
                "Start it with `srun stm-keras train ...` inside the job."
            )
        rank, world, nodes, job = _read(environ, "SLURM_", SLURM)
        local = environ.get("SLURM_LOCALID", "0")
        step = int(environ.get("SLURM_STEP_ID", 0))
        one_node = environ.get("SLURM_STEP_NUM_NODES") == "1"
        host = environ.get("MASTER_ADDR")  # set by jobs/train_multi.sbatch
        host = host or (LOOPBACK if one_node else first_host(nodes))
        address = f"{host}:{20000 + (int(job) + 61 * step) % 10000}"
    else:
        raise UsageError(
            "`--parallel processes` finds one process alone. Start it with `srun --ntasks=2 "
            "stm-keras train ...` or with `torchrun --nproc-per-node=2 -m stm_keras train "
            "...`."
        )
    try:
        launch = Launch(int(rank), int(world), int(local), address)
    except ValueError:
        launch = None
    if launch is None or not 0 <= launch.rank < launch.world:
        raise UsageError(
            "`--parallel processes`: the number of a process must be below their count. "
            f"Received: process {rank} of {world}."
        )
    return launch


def _read(environ, prefix, names):
    names = [prefix + name for name in names]
    missing = [name for name in names if not environ.get(name)]
    if missing:
        raise UsageError(
            f"`--parallel processes`: the variable {missing[0]} is not set, and "
            f"{next(name for name in names if name not in missing)} is. Set all of "
            f"{', '.join(names)}, or none and start with srun or torchrun."
        )
    return [environ[name] for name in names]


def first_host(nodes):
    """Return the first host of a list as SLURM writes it: `n[03-05,9],m1` gives `n03`."""
    match = re.match(r"([^,\[]+)(?:\[(\d+)[^\]]*\]([^,]*))?", nodes)
    name, number, rest = match.groups()
    return f"{name}{number or ''}{rest or ''}"


@contextlib.contextmanager
def ending_together(strategy):
    """End this process at once when it fails, for the others wait for it in vain.

    JAX would keep a process that fails for minutes, until all others end as well. The first
    process prints the error, as the command line does.
    """
    try:
        yield
    except BaseException as error:
        if strategy.world == 1:
            raise
        if not hasattr(error, "exit_code"):
            traceback.print_exc()
        elif isinstance(error, StmKerasError) and strategy.rank == 0:
            print("Error: " + " ".join(str(error).split()), file=sys.stderr)
        ending = threading.Thread(target=strategy.shutdown, daemon=True)
        ending.start()
        ending.join(SHUTDOWN_SECONDS)
        end_process(getattr(error, "exit_code", 1))
