"""Where training scans live: on the host, which makes batches of them, or on the device.

On the device they are gathered, varied and scaled in front of the network, in the compiled step.
The host sends which scans, and a few numbers a scan (`stm_keras.data.variation`).
"""

import logging
from collections.abc import Iterator

import keras
import numpy as np

from stm_keras.backend import device_memory, devices
from stm_keras.data.dataset import read_images
from stm_keras.data.preprocess import has_signal, remove_line_trend
from stm_keras.data.variation import draw_variation
from stm_keras.errors import ConfigError
from stm_keras.layers.resident import ResidentScans
from stm_keras.memory import budget
from stm_keras.training.batches import Batches
from stm_keras.training.targets import TrainingSet

SHARE = 0.25  # of the device's memory, at most: the rest is for the network
CHUNK = 1024  # scans read at a time

logger = logging.getLogger(__name__)


def lives_on_device(residence: str, sets: list[TrainingSet]) -> bool:
    """Tell whether scans shall live on the device, as `data.residence` says.

    Raises:
        ConfigError: They shall, and do not fit.
    """
    if residence == "host" or (residence == "auto" and devices() == ["cpu"]):
        return False
    needed, there = sum(map(_bytes, sets)), device_memory()
    most = budget()  # they pass through the host
    most = most if there is None else min(most, SHARE * there)
    fits = needed <= most
    if residence == "device" and not fits:
        raise ConfigError(
            f"`data.residence`: {needed / 1e9:.3g} GB of scans, of which the memory here and on "
            f'the device takes {most / 1e9:.3g} GB. Take "host" or "auto".'
        )
    if fits:
        logger.info(
            f"{sum(map(len, sets))} scans live on the device: {needed / 1e6:.0f} MB."
        )
    return fits


def _bytes(scans):
    return (
        len(scans) * int(np.prod(scans.images.shape[1:])) * _stored(scans.images).itemsize
    )


def _stored(images):
    """Return how scans are stored: as they are if of 8 bits, else levelled, in 16."""
    return np.dtype("uint8" if images.dtype == np.uint8 else "float16")


class ResidentBatches(Batches):
    """Batches that say which scans are meant, and how each is varied.

    Inputs are a dict, as `ResidentScans` takes it; targets and weights are those of `Batches`.
    """

    def __init__(self, scans, *arguments, **options):
        super().__init__(scans, *arguments, **options)
        self.sets = [scans, *(each for each, _ in self.auxiliary)]
        self._first = dict(
            zip(map(id, self.sets), np.cumsum([0, *map(len, self.sets)]), strict=False)
        )
        self._signal = {id(each): _signal(each) for each in self.sets}

    def _inputs(self, scans, chosen, rng, fixed):
        shape = len(chosen), *scans.images.shape[1:]
        varied = draw_variation(shape, self.augment, rng, fixed)
        signal = self._signal[id(scans)][chosen]
        upside_down = varied.source[:, 1:2] < 0
        signal = np.where(upside_down & ~varied.moved[:, None], signal[:, ::-1], signal)
        signal |= varied.moved[:, None]  # their lines are other lines
        inputs = {
            "scan": (self._first[id(scans)] + chosen).astype(np.int32),
            "source": varied.source,
            "moved": varied.moved.astype(np.float32),
            "noise": varied.noise,
            "signal": signal.astype(np.float32),
            "kept": varied.kept.astype(np.float32),
        }
        return inputs, (signal & varied.kept)[:, :, None]


def _signal(scans: TrainingSet) -> np.ndarray:
    return np.concatenate([has_signal(part) for part in _parts(scans)])


def _parts(scans: TrainingSet) -> Iterator[np.ndarray]:
    for start in range(0, len(scans), CHUNK):
        yield read_images(scans.images, scans.indices[start : start + CHUNK])


def stored_scans(sets: list[TrainingSet]) -> np.ndarray:
    """Return all scans of some sets in turn, as they are stored: `(scans, lines, pixels)`."""
    kinds = {_stored(each.images) for each in sets}
    kind = max(kinds, key=lambda each: each.itemsize)
    stored = np.empty((sum(map(len, sets)), *sets[0].images.shape[1:]), kind)
    first = 0
    for part in (part for each in sets for part in _parts(each)):
        if kind != np.uint8:  # in parts of the largest of a scan, or 16 bits would not do
            part = remove_line_trend(part)
            part /= np.maximum(np.abs(part).max((1, 2), keepdims=True), 1e-300)
        stored[first : first + len(part)] = part
        first += len(part)
    return stored


def with_scans(network: keras.Model, batches: Batches) -> keras.Model:
    """Put what makes its input in front of a network, where that is done on the device.

    The weights, and the optimizer, are those of the network, which is saved and judges as if
    it were alone; the model that this returns is the one to call `fit` of.
    """
    if not isinstance(batches, ResidentBatches):
        return network
    lines = batches.scans.images.shape[1]
    inputs = {
        "scan": keras.Input((), dtype="int32", name="scan"),
        "source": keras.Input((6,), name="source"),
        **{name: keras.Input((), name=name) for name in ("moved", "noise")},
        **{name: keras.Input((lines,), name=name) for name in ("signal", "kept")},
    }
    noise = batches.augment is not None and batches.augment.noise > 0
    stored = stored_scans(batches.sets)
    scans = ResidentScans(stored, batches.input, noise, batches.seed)
    return keras.Model(inputs, network(scans(inputs)), name=f"{network.name}_with_scans")
