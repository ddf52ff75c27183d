"""Train one model on several devices or processes, as far as each backend lets Keras do so.

Each process computes its own rows of every batch. What follows from all rows is the same in
all processes; the first alone scores, writes, and goes on after the last epoch.

Keras 3.15 distributes under JAX only, so this file names backends. Where Keras or a library
has no public way, a private attribute is patched; the test that fails without it is named.
"""

import contextlib
import functools
import json
import os
import signal
import socket
import threading
import warnings

import keras
import numpy as np

from stm_keras.errors import TrainingError, UsageError
from stm_keras.training.optimizer import inner

CHECK_EVERY = 10  # steps between two exchanges of all processes: each waits for all


class Strategy:
    """How devices and processes share the training of a model; here only one.

    Attributes:
        rank: int. Number of this process; the first is 0.
        world: int. Number of processes.
        replicas: int. Devices of all processes, among which a batch is shared.
        copy: `keras.Model` on one device that the first process scores and saves with,
            or None where the trained model itself will do.
        local_logs: bool. Whether the logs of a process are those of its own rows.
    """

    rank, world, replicas = 0, 1, 1
    copy = None
    local_logs = False

    def scope(self):
        """Return a context in which the model must be built."""
        return contextlib.nullcontext()

    def single_device(self):
        """Return a context in which Keras uses one device only."""
        return contextlib.nullcontext()

    def prepare(self, model):
        """Make the steps of a compiled model count the rows of all devices."""

    def shutdown(self):
        """Part from the other processes; each goes on, or ends, for itself."""

    def gather(self, row):
        """Collect a uint8 array of each process: `(world, len(row))`."""
        return row[None]

    def exchange(self, value):
        """Collect something JSON-ready of each process: list, in the order of their ranks.

        All processes must ask at the same step, and all get the same answer.
        """
        if self.world == 1:
            return [value]
        text = np.frombuffer(json.dumps(value).encode(), np.uint8)
        sizes = self.gather(np.array([len(text)], np.int64).view(np.uint8)).view(np.int64)
        row = np.zeros(sizes.max(), np.uint8)
        row[: len(text)] = text
        rows = zip(self.gather(row), sizes[:, 0], strict=True)
        return [json.loads(row[:size].tobytes()) for row, size in rows]

    def mean(self, values):
        """Average a dict of float over the processes, which must have the same keys."""
        rows = self.exchange({key: float(value) for key, value in values.items()})
        return {key: float(np.mean([row[key] for row in rows])) for key in values}

    def run_on_first(self, work):
        """Call `work()` in the first process, on one device; all get its JSON-ready result.

        Even to save weights Keras makes variables, which under JAX all would have to make.

        Raises:
            TrainingError: In the other processes, where it fails in the first.
        """
        outcome, failure = None, None
        if self.rank == 0:
            try:
                with self.single_device():
                    outcome = {"value": work()}
            except Exception as error:  # any: the other processes wait for the outcome
                outcome, failure = {"error": str(error)}, error
        outcome = self.exchange(outcome)[0]
        if failure:
            raise failure
        if "error" in outcome:
            raise TrainingError(f"The first process stopped: {outcome['error']}")
        return outcome["value"]

    def run_on_copy(self, work, model):
        """Call `work(model)` in the first process with the model as it is now, on one device.

        All processes must call it, and read `model`: under JAX they fetch its weights
        together. All get the result, which must be JSON-ready.
        """

        def run():
            if self.copy is None:
                return work(model)
            self.copy.set_weights(model.get_weights())
            return work(self.copy)

        return self.run_on_first(run)


SINGLE = Strategy()


class JaxStrategy(Strategy):
    """Devices of one or several processes, by Keras' own `DataParallel`."""

    def __init__(self, launch=None):
        import jax

        if launch is not None:
            if launch.here:
                _bind_jax_to(launch.address)
            former = signal.getsignal(signal.SIGTERM)
            keras.distribution.initialize(launch.address, launch.world, launch.rank)
            in_main_thread = threading.current_thread() is threading.main_thread()
            if former is not None and in_main_thread:  # JAX installed a handler of its own
                signal.signal(signal.SIGTERM, former)
            self.rank, self.world = launch.rank, launch.world
        self.replicas = jax.device_count()
        if launch is None:
            _check_devices(self.replicas, jax.devices()[0].platform)
        self.layout = keras.distribution.DataParallel(auto_shard_dataset=False)
        keras.distribution.set_distribution(self.layout)

    @contextlib.contextmanager
    def single_device(self):
        keras.distribution.set_distribution(None)
        try:
            yield
        finally:
            keras.distribution.set_distribution(self.layout)

    def shutdown(self):
        import jax

        keras.distribution.set_distribution(None)
        jax.distributed.shutdown()  # of processes; nothing happens where there are none
        self.world = 1

    def gather(self, row):
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(row)).reshape(-1, len(row))


def _bind_jax_to(address):
    """Make JAX's processes listen at their address, and not on every one of the machine.

    On processors they compute with gloo, which has a parameter for that, and JAX no
    setting: `wait` of tests/training/test_parallel.py fails on an address that is not the loopback.
    """
    os.environ.setdefault("JAX_COORDINATOR_BIND_ADDRESS", address)
    os.environ.setdefault("NCCL_SOCKET_IFNAME", _loopback())
    host = address.rpartition(":")[0].strip("[]")
    try:
        from jax._src.lib import _jax

        make = _jax.make_gloo_tcp_collectives
        _jax.make_gloo_tcp_collectives = functools.partial(make, hostname=host)
    except (ImportError, AttributeError):
        warnings.warn(f"This JAX may listen on more addresses of this machine than {host}.")


class TensorFlowStrategy(Strategy):
    """Devices of one process, by TensorFlow's `MirroredStrategy`."""

    def __init__(self, launch=None):
        import tensorflow as tf

        list_devices = tf.config.list_logical_devices
        devices = list_devices("GPU") or list_devices("CPU")
        _check_devices(len(devices), devices[0].device_type)
        self.strategy = tf.distribute.MirroredStrategy([each.name for each in devices])
        self.replicas = len(devices)

    def scope(self):
        return self.strategy.scope()

    def prepare(self, model):
        for layer in _batch_norms(model):
            layer.synchronized = True
        self._clip_sums(inner(model.optimizer))

    def _clip_sums(self, optimizer):
        """Clip gradients after they are summed: Keras clips those of each device.

        It sums them again afterwards, so each device gives its part of what is clipped.
        Without this, losses differ by 6e-4 in
        `test_two_give_what_one_gives_also_where_a_batch_is_filled_up`.
        """
        import tensorflow as tf

        clip = optimizer._clip_gradients

        def clip_sums(gradients):
            context = tf.distribute.get_replica_context()
            sums = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
            return [each / self.replicas for each in clip(sums)]

        if optimizer.global_clipnorm:
            optimizer._clip_gradients = clip_sums


class TorchStrategy(Strategy):
    """Processes of one device each, which average each gradient as soon as it is there.

    Keras 3.15 cannot distribute under torch, and torch's own wrapper has no `fit`.
    """

    local_logs = True

    def __init__(self, launch):
        import torch
        from torch import distributed

        backend = "gloo"
        if torch.cuda.is_available():
            backend = "cpu:gloo,cuda:nccl"
            torch.cuda.set_device(launch.local_rank % torch.cuda.device_count())
        if launch.here:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", _loopback())
            os.environ.setdefault("NCCL_SOCKET_IFNAME", _loopback())
        store = _local_store(launch)
        distributed.init_process_group(
            backend,
            init_method=None if store else f"tcp://{launch.address}",
            store=store,
            rank=launch.rank,
            world_size=launch.world,
        )
        self.rank, self.world = launch.rank, launch.world
        self.replicas = launch.world
        self.distributed = distributed

    def prepare(self, model):
        def average(weight):
            self.distributed.all_reduce(weight.grad)
            weight.grad /= self.replicas

        for variable in [*model.weights, *model.optimizer.variables]:
            if variable.value.is_floating_point():
                self.distributed.broadcast(variable.value.data, 0)
        for variable in model.trainable_variables:
            variable.value.register_post_accumulate_grad_hook(average)
        for layer in _batch_norms(model):  # `synchronized` is for TensorFlow alone
            layer._moments = self._moments(layer)

    def _moments(self, layer):
        """Return what gives mean and variance of a layer's input over all processes.

        Without this `test_all_stop_together_and_one_goes_on_alone_with_batch_norms` fails.
        """
        summed = _differentiable_sum(self.distributed)

        def moments(inputs, mask):
            axes = layer._reduction_axes
            count = self.replicas * inputs.numel() / inputs.shape[layer.axis]
            mean = summed(inputs.sum(axes, keepdim=True)) / count
            variance = summed(((inputs - mean) ** 2).sum(axes)) / count
            return mean.reshape(-1), variance

        return moments

    def shutdown(self):
        if self.distributed.is_initialized():
            self.distributed.destroy_process_group()
        self.world = 1

    def gather(self, row):
        import torch

        own = torch.tensor(row)
        rows = [torch.empty_like(own) for _ in range(self.world)]
        try:
            self.distributed.all_gather(rows, own)
        except RuntimeError as error:
            text = " ".join(str(error).split())
            raise TrainingError(f"Another process has ended ({text}).") from None
        return np.stack([each.numpy() for each in rows])


def _local_store(launch):
    """Make the store by which torch's processes find one another, on this machine alone.

    Left to itself torch listens on every address of the machine. Under torchrun its agent
    makes the store, and so does torch for several machines: then this gives None.
    """
    from torch.distributed import TCPStore

    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if agent or not launch.here:
        return None
    host, _, port = launch.address.rpartition(":")
    host, port, listener = host.strip("[]"), int(port), None
    if launch.rank == 0:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listener = socket.create_server((host, port), family=family).detach()
        except OSError as error:
            raise UsageError(
                f"`--parallel processes` cannot listen at {launch.address} "
                f"({os.strerror(error.errno)}). Choose another port."
            ) from None
    return TCPStore(
        host, port, launch.world, is_master=launch.rank == 0, master_listen_fd=listener
    )


def _differentiable_sum(distributed):
    """Return a function that sums a tensor over the processes, and its gradient too."""
    import torch

    class Sum(torch.autograd.Function):
        @staticmethod
        def forward(context, values):
            values = values.clone()
            distributed.all_reduce(values)
            return values

        backward = forward

    return Sum.apply


STRATEGIES = {"jax": JaxStrategy, "tensorflow": TensorFlowStrategy, "torch": TorchStrategy}


def make_strategy(kind, launch=None):
    """Join those who train together, before anything is computed.

    `kind` and `launch` are as of `stm_keras.training.launch.check_parallel`.

    Raises:
        UsageError: There is only one device.
    """
    return SINGLE if kind is None else STRATEGIES[keras.config.backend()](launch)


def _check_devices(count, kind):
    if count < 2:
        raise UsageError(
            f"`--parallel devices` needs two or more. Received: one ({kind.lower()}). Leave "
            "it out to train on one."
        )


def _loopback():
    names = [name for _, name in socket.if_nameindex()]
    return next((name for name in names if name.startswith("lo")), "lo")


def _batch_norms(model):
    layers = model._flatten_layers()  # those inside of layers too, which `layers` lacks
    return [each for each in layers if isinstance(each, keras.layers.BatchNormalization)]
