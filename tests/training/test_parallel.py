"""Real processes and devices that train one model: the result is that of one alone.

JAX and torch start two processes on this machine; TensorFlow, and JAX again, share a batch
among two devices of one process. Sums over devices round otherwise than sums over a batch,
and AdamW makes the most of it: hence the tolerances, at a learning rate that is not large.
"""

import contextlib
import csv
import os
import platform
import socket
import subprocess
import sys
import threading
import time
from ipaddress import ip_address

import keras
import numpy as np
import psutil
import pytest
from helpers import ONCE, REPOSITORY

from stm_keras.config import load_config
from stm_keras.inference.model_file import load_predictor
from stm_keras.runs import Run
from stm_keras.training.train import train

BACKEND = keras.config.backend()
KIND = "devices" if BACKEND == "tensorflow" else "processes"
VIT = ("vit", "model.layers=1", "model.heads=2", "model.dim=8", "model.mlp_dim=8")
CNN = ("cnn_small", "model.width=2")  # has batch norms

WORKER = """
import os, signal, sys
from pathlib import Path
from stm_keras.backend import import_keras, use_backend

kind, config, folder, event = sys.argv[1:]
backend = use_backend()
import_keras()
if backend == "tensorflow":  # no variable makes two devices of a processor
    import tensorflow as tf
    devices = [tf.config.LogicalDeviceConfiguration()] * 2
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, devices)
from stm_keras.training import parallel
parallel.CHECK_EVERY = 2
from stm_keras.config import load_config
from stm_keras.errors import StmKerasError
from stm_keras.runs import FollowedRun, Run
from stm_keras.training.callbacks import FiniteLoss
from stm_keras.training.launch import check_parallel, ending_together
from stm_keras.training.train import train

class Stopped(StmKerasError):
    exit_code = 75

reached = []
signal.signal(signal.SIGTERM, lambda number, frame: reached.append(number))
config = load_config(config)
strategy = parallel.make_strategy(kind, check_parallel(kind, backend, config.model.name))
os.kill(os.getpid(), signal.SIGTERM)
assert reached == [signal.SIGTERM], "the signal is lost"
last = strategy.rank == strategy.world - 1
check = FiniteLoss.on_train_batch_end

def on_train_batch_end(self, batch, logs=None):
    check(self, batch, logs)
    self.batch = batch
    if last and [self.epoch, batch] == [1, 1]:
        if event == "stop":
            os.kill(os.getpid(), signal.SIGINT)
        if event == "fail":
            raise Stopped("this one fails")

FiniteLoss.on_train_batch_end = on_train_batch_end
with ending_together(strategy):
    run = FollowedRun(Path(folder)) if strategy.rank else Run.start(folder, config)
    try:
        trained = train(config, run, strategy=strategy)
    except KeyboardInterrupt:
        raise Stopped("asked") from None
assert (trained is None) == (strategy.rank > 0)
"""


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def start(command, kind, **variables):
    """Start what trains together; return its processes, the first one first."""
    flags = os.environ.get("XLA_FLAGS", "")
    world, port = (2 if kind == "processes" else 1), free_port()
    processes = []
    for rank in range(world):
        environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), "KERAS_BACKEND": BACKEND}
        if kind == "devices":
            flag = "--xla_force_host_platform_device_count=2"
            environ["XLA_FLAGS"] = f"{flag} {flags}"
        elif BACKEND == "jax":  # by Keras' names here, by those of torchrun there
            environ["KERAS_DISTRIBUTION_JOB_ADDRESSES"] = f"127.0.0.1:{port}"
            environ["KERAS_DISTRIBUTION_NUM_PROCESSES"] = str(world)
            environ["KERAS_DISTRIBUTION_PROCESS_ID"] = str(rank)
        else:
            environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            environ |= {"RANK": str(rank), "WORLD_SIZE": str(world)}
        processes.append(
            subprocess.Popen(
                [sys.executable, *map(str, command)],
                env=environ | variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return processes


def wait(processes):
    """Wait for processes; return exit code, stdout and stderr of each."""
    ends, heard = [], set()
    watch = threading.Thread(target=listen, args=(processes, heard), daemon=True)
    watch.start()
    try:
        for process in processes:
            told = process.communicate(timeout=400)
            ends.append((process.returncode, *told))
    finally:
        for process in processes:
            process.kill()
            process.communicate()  # closes what it wrote to
    watch.join()
    strangers = {address for address in heard if not ip_address(address).is_loopback}
    assert not strangers, "other machines may knock"
    assert heard or len(processes) == 1
    return ends


def listen(processes, heard):
    """Note on which addresses processes listen for others, until they have ended."""
    while any(process.poll() is None for process in processes):
        for process in processes:
            with contextlib.suppress(psutil.Error):
                for each in psutil.Process(process.pid).net_connections("inet"):
                    if each.status == psutil.CONN_LISTEN:
                        heard.add(each.laddr.ip.removeprefix("::ffff:"))
        time.sleep(0.1)


def together(config, folder, kind=KIND, event="none"):
    """Train a run with two devices or processes; return how each process ended."""
    return wait(start(["-c", WORKER, kind, config, folder, event], kind))


def history(folder):
    with (folder / "history.csv").open(newline="") as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    for row in rows:
        del row["seconds"]
    return rows


def trained_alone(folder, dataset_file, model, *settings):
    name, *rest = model
    settings = ["train.learning_rate=1e-3", "train.epochs=2", *settings]
    settings += [
        f"data.path={dataset_file}",
        f"model.name={name}",
        "model.dropout=0",
        *rest,
    ]
    config = load_config(None, settings)
    run = Run.start(folder, config)
    train(config, run)
    return run


def assert_same(one, two):
    rows = list(zip(history(one.path), history(two), strict=True))
    for mine, theirs in rows:
        assert theirs == pytest.approx(mine, rel=2e-4, abs=2e-5)
    mine, theirs = (load_predictor(path / "best.keras") for path in (one.path, two))
    assert (
        mine.metadata["training"]["best"]["epoch"]
        == theirs.metadata["training"]["best"]["epoch"]
    )
    for a, b in zip(mine.model.get_weights(), theirs.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)
    kinds = [[type(layer) for layer in each.model.layers] for each in (mine, theirs)]
    assert kinds[0] == kinds[1]
    assert '"synchronized": true' not in theirs.model.to_json()  # others could not load it
    names = [{path.name for path in run.rglob("*")} for run in (one.path, two)]
    assert names[0] - {".lock"} == names[1] - {".lock"}


def test_two_give_what_one_gives_also_where_a_batch_is_filled_up(tmp_path, dataset_file):
    settings = "train.batch_size=15", 'data.residence="device"'
    one = trained_alone(tmp_path / "one", dataset_file, VIT, *settings)
    for code, _, stderr in together(one.file("config.toml"), tmp_path / "two"):
        assert code == 0, stderr
    assert_same(one, tmp_path / "two")
    shared = Run(tmp_path / "two").read_json("environment.json")["parallel"]
    assert shared["devices"] == 2
    assert set(shared["hosts"]) == {platform.node()}
    assert len(shared["hosts"]) == shared["processes"] == (2 if KIND == "processes" else 1)


def test_all_stop_together_and_one_goes_on_alone_with_batch_norms(tmp_path, dataset_file):
    settings = ["train.batch_size=16", "train.ema=0.9", "train.layer_decay=0.7"]
    one = trained_alone(tmp_path / "one", dataset_file, CNN, *settings)
    ends = together(one.file("config.toml"), tmp_path / "two", event="stop")
    if KIND == "processes":
        assert [code for code, _, _ in ends] == [75, 75], ends
        assert ends[0][2].endswith("Error: asked\n")
        assert "Error" not in ends[1][2]
    assert len(history(tmp_path / "two")) == 1
    train(one.config(), Run.open(tmp_path / "two"))
    assert_same(one, tmp_path / "two")


@ONCE
def test_nobody_waits_for_one_that_fails(tmp_path, dataset_file):
    config = load_config(
        None,
        [
            *(f"data.path={dataset_file}", "train.batch_size=16", f"model.name={VIT[0]}"),
            *VIT[1:],
        ],
    )
    Run.start(tmp_path / "config", config)
    ends = together(tmp_path / "config" / "config.toml", tmp_path / "run", event="fail")
    assert ends[0][0] != 0
    assert ends[1][0] == 75


@pytest.mark.skipif(BACKEND != "jax", reason="only JAX has both, processes and devices")
def test_two_devices_of_one_process_give_what_one_gives(tmp_path, dataset_file):
    settings = "train.batch_size=15", 'data.residence="device"'
    one = trained_alone(tmp_path / "one", dataset_file, VIT, *settings)
    for code, _, stderr in together(one.file("config.toml"), tmp_path / "two", "devices"):
        assert code == 0, stderr
    assert_same(one, tmp_path / "two")


def test_one_device_is_refused_in_one_line(tmp_path, dataset_file):
    if BACKEND == "torch":
        told = "torch trains on one device a process"
    else:
        told = "needs two or more. Received: one (cpu). Leave it out"
    command = ["-m", "stm_keras", "train", "--data", dataset_file, "-o", tmp_path / "run"]
    done = subprocess.run(
        [sys.executable, *map(str, command), "--parallel", "devices"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "KERAS_BACKEND": BACKEND},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]  # TensorFlow greets before it
    assert line.startswith("Error: `--parallel devices`")
    assert told in line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
