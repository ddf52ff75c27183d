"""Train one model on several devices, as far as each backend lets Keras do so.

Keras 3.15 has an interface of its own for JAX only, so this file names backends.
"""

import contextlib
import functools
import os
import signal
import socket
import threading
import warnings

import keras
import numpy as np

from stm_keras.errors import TrainingError, UsageError
from stm_keras.training.team import ALONE, Team


class JaxTeam(Team):
    """Devices of one or several processes, by Keras' own `DataParallel`."""

    def __init__(self, launch=None):
        import jax

        if launch is not None:
            if launch.here:
                _jax_stays_here(launch.address)
            former = signal.getsignal(signal.SIGTERM)
            keras.distribution.initialize(launch.address, launch.world, launch.rank)
            if former is not None and _main_thread():  # JAX took it for its own purposes
                signal.signal(signal.SIGTERM, former)
            self.rank, self.world = launch.rank, launch.world
        self.replicas = jax.device_count()
        if launch is None:
            _check_devices(self.replicas, jax.devices()[0].platform)
        self.layout = keras.distribution.DataParallel(auto_shard_dataset=False)
        keras.distribution.set_distribution(self.layout)

    @contextlib.contextmanager
    def apart(self):
        keras.distribution.set_distribution(None)
        try:
            yield
        finally:
            keras.distribution.set_distribution(self.layout)

    def leave(self):
        import jax

        keras.distribution.set_distribution(None)
        jax.distributed.shutdown()  # of processes; nothing happens where there are none
        self.world = 1

    def gather(self, row):
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(row)).reshape(-1, len(row))


def _jax_stays_here(address):
    """Have JAX's processes listen where they are told, and not on every address.

    What they compute with on processors (gloo) has a parameter for that, and JAX no setting.
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


class MirroredTeam(Team):
    """Devices of one process, by TensorFlow's `MirroredStrategy`."""

    def __init__(self, launch=None):
        import tensorflow as tf

        found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices(
            "CPU"
        )
        _check_devices(len(found), found[0].device_type)
        self.strategy = tf.distribute.MirroredStrategy([device.name for device in found])
        self.replicas = len(found)

    def scope(self):
        return self.strategy.scope()

    def prepare(self, model):
        for layer in _batch_norms(model):
            layer.synchronized = True
        self._clip_sums(getattr(model.optimizer, "inner_optimizer", model.optimizer))

    def _clip_sums(self, optimizer):
        """Have gradients clipped after they are summed: Keras clips those of each device.

        It sums them again afterwards, so each device gives its part of what is clipped.
        """
        import tensorflow as tf

        clip = optimizer._clip_gradients

        def clip_sums(gradients):
            context = tf.distribute.get_replica_context()
            sums = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
            return [each / self.replicas for each in clip(sums)]

        if optimizer.global_clipnorm:
            optimizer._clip_gradients = clip_sums


class TorchTeam(Team):
    """Processes of one device each, which average each gradient as soon as it is there.

    Keras 3.15 cannot distribute under torch, and torch's own wrapper has no `fit`.
    """

    own_logs = True

    def __init__(self, launch):
        import torch
        from torch import distributed

        if torch.cuda.is_available():
            torch.cuda.set_device(launch.local_rank % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        if launch.here:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", _loopback())
            os.environ.setdefault("NCCL_SOCKET_IFNAME", _loopback())
        store = _store_here(launch)
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
        def share(weight):
            self.distributed.all_reduce(weight.grad)
            weight.grad /= self.replicas

        for variable in [*model.weights, *model.optimizer.variables]:
            if variable.value.is_floating_point():
                self.distributed.broadcast(variable.value.data, 0)
        for variable in model.trainable_variables:
            variable.value.register_post_accumulate_grad_hook(share)
        for layer in _batch_norms(model):
            layer._moments = self._moments(layer)

    def _moments(self, layer):
        """Return what gives mean and variance of a layer's input over all processes."""
        summed = _summed(self.distributed)

        def moments(inputs, mask):
            axes = layer._reduction_axes
            count = self.replicas * inputs.numel() / inputs.shape[layer.axis]
            mean = summed(inputs.sum(axes, keepdim=True)) / count
            variance = summed(((inputs - mean) ** 2).sum(axes)) / count
            return mean.reshape(-1), variance

        return moments

    def leave(self):
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


def _store_here(launch):
    """Make what torch's processes find one another by, on this machine alone.

    Left to itself torch listens on every address of the machine. Under torchrun its agent
    does so, and there is nothing for us to make.

    Returns:
        `torch.distributed.TCPStore`, or None where torch is to make it.
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


def _loopback():
    names = [name for _, name in socket.if_nameindex()]
    return next((name for name in names if name.startswith("lo")), "lo")


def _summed(distributed):
    """Return a function that sums a tensor over the processes, and its gradient too."""
    import torch

    class Summed(torch.autograd.Function):
        @staticmethod
        def forward(context, values):
            values = values.clone()
            distributed.all_reduce(values)
            return values

        @staticmethod
        def backward(context, gradient):
            gradient = gradient.clone()
            distributed.all_reduce(gradient)
            return gradient

    return Summed.apply


TEAMS = {"jax": JaxTeam, "tensorflow": MirroredTeam, "torch": TorchTeam}


def join(kind, launch=None):
    """Join those who train together, before anything is computed.

    Args:
        kind: str, "devices" or "processes", or None for one device.
        launch: `stm_keras.training.launch.Launch` of several processes.

    Returns:
        `Team`.

    Raises:
        UsageError: There is only one device.
    """
    return ALONE if kind is None else TEAMS[keras.config.backend()](launch)


def _check_devices(count, kind):
    if count < 2:
        raise UsageError(
            f"`--parallel devices` needs two or more. Received: one ({kind.lower()}). Leave "
            "it out to train on one."
        )


def _main_thread():
    return threading.current_thread() is threading.main_thread()


def _batch_norms(model):
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
