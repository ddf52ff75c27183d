import hashlib
import time

import keras
import numpy as np
import pytest

from stm_keras.config import AugmentConfig
from stm_keras.data.preprocess import standardise_lines
from stm_keras.training.batches import Batches, balanced_weights

IMAGES = np.random.default_rng(0).integers(0, 255, (10, 6, 12)).astype("uint8")
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])


def make(augment=None, indices=range(10), batch_size=4, seed=0):
    return Batches(IMAGES, LABELS, np.array(indices), 3, batch_size, seed, augment)


def read(batches, epoch):
    batches.set_epoch(epoch)
    return [batches[i] for i in range(len(batches))]


def digest(batches):
    return hashlib.sha256(
        b"".join(a.tobytes() for pair in batches for a in pair)
    ).hexdigest()


def test_every_scan_comes_once_and_batches_are_of_one_size():
    pairs = read(make(), 0)
    assert [x.shape for x, _ in pairs] == [(4, 6, 12)] * 3
    seen = np.concatenate([x for x, _ in pairs])[:10]
    wanted = standardise_lines(IMAGES)
    assert sorted(map(bytes, seen)) == sorted(map(bytes, wanted))


def test_targets_belong_to_their_scans():
    inputs = standardise_lines(IMAGES)
    for x, y in read(make(indices=[9, 3, 4, 5, 8]), 1):
        for scan, target in zip(x, y, strict=True):
            (index,) = np.flatnonzero((inputs == scan).all((1, 2)))
            assert index in (9, 3, 4, 5, 8)
            assert target.argmax() == LABELS[index]


def test_a_batch_follows_from_seed_epoch_and_number():
    augment = AugmentConfig(min_lines=2)
    first, again = digest(read(make(augment), 3)), digest(read(make(augment), 3))
    assert first == again
    assert first != digest(read(make(augment), 4))
    assert first != digest(read(make(augment, seed=1), 3))
    alone = make(augment)
    alone.set_epoch(3)
    assert np.array_equal(alone[2][0], read(make(augment), 3)[2][0])


def test_fit_sees_each_batch_once_in_order(monkeypatch):
    seen = []
    batches = make()
    original = Batches.__getitem__

    def spy(self, number):
        pair = original(self, number)
        seen.append(pair[0][:, 0, 0].tobytes())
        return pair

    class Mark(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            batches.set_epoch(epoch)
            seen.clear()

        def on_epoch_end(self, epoch, logs=None):
            wanted = [x[:, 0, 0].tobytes() for x, _ in read(make(), epoch)]
            assert seen[: len(wanted)] == wanted

    monkeypatch.setattr(Batches, "__getitem__", spy)
    entry = keras.Input((6, 12))
    model = keras.Model(entry, keras.layers.Dense(3)(keras.layers.Flatten()(entry)))
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    model.fit(batches, shuffle=False, epochs=3, verbose=0, callbacks=[Mark()])


def test_waiting_is_measured():
    batches = make()
    make_one = batches.make
    batches.make = lambda *arguments: (time.sleep(0.05), make_one(*arguments))[1]
    batches[0]
    assert batches.waited >= 0.05


def test_class_weights_are_those_of_the_predecessor():
    counts = [1664, 8312, 3202, 5754]
    weights = balanced_weights(np.repeat(range(4), counts), 4)
    assert [round(weights[i], 3) for i in range(4)] == [2.844, 0.569, 1.478, 0.823]


def test_a_class_without_scans_has_no_weight():
    with pytest.raises(
        ValueError, match=r"Every class needs a scan. .* counts \[2, 0, 1\]"
    ):
        balanced_weights(np.array([0, 0, 2]), 3)


def test_class_weight_is_what_fit_multiplies_the_loss_by():
    inputs = standardise_lines(IMAGES)
    targets = np.eye(3, dtype="float32")[LABELS]
    entry = keras.Input((6, 12))
    model = keras.Model(entry, keras.layers.Dense(3)(keras.layers.Flatten()(entry)))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss)
    weights = balanced_weights(LABELS, 3)
    told = model.fit(inputs, targets, batch_size=10, class_weight=weights, verbose=0)
    logits = model.predict(inputs, verbose=0)
    each = np.log(np.exp(logits).sum(1)) - logits[np.arange(10), LABELS]
    wanted = np.mean(each * [weights[label] for label in LABELS])
    assert told.history["loss"][0] == pytest.approx(wanted, rel=1e-4)
