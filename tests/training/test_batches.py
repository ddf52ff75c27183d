import hashlib
import time

import keras
import numpy as np
import pytest
from helpers import made_up_dataset

from stm_keras.data.preprocess import standardise_lines
from stm_keras.settings import AugmentConfig
from stm_keras.training.batches import Batches
from stm_keras.training.targets import TrainingSet, make_training_set, unknown_surface_set

IMAGES = np.random.default_rng(0).integers(0, 255, (10, 6, 12)).astype("uint8")
HEADS = ("state", "change", "unknown")
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])


def training_set(indices=range(10), **changes):
    indices = np.array(indices)
    state = np.eye(3, dtype="float32")[LABELS[indices]]
    fields = {"state": state, "weight": np.ones(len(indices), "float32"), **changes}
    return TrainingSet(IMAGES, indices, **fields)


def make(augment=None, indices=range(10), batch_size=4, seed=0, **more):
    return Batches(training_set(indices), batch_size, seed, augment, **more)


def read(batches, epoch):
    batches.set_epoch(epoch)
    return [batches[i] for i in range(len(batches))]


def digest(batches):
    return hashlib.sha256(
        b"".join(a.tobytes() for pair in batches for a in pair)
    ).hexdigest()


def test_every_scan_comes_once_and_batches_are_of_one_size():
    pairs = read(make(), 0)
    assert [x.shape for x, _, _ in pairs] == [(4, 6, 12)] * 3
    seen = np.concatenate([x for x, _, _ in pairs])[:10]
    wanted = standardise_lines(IMAGES)
    assert sorted(map(bytes, seen)) == sorted(map(bytes, wanted))


def test_targets_belong_to_their_scans():
    inputs = standardise_lines(IMAGES)
    for x, y, _ in read(make(indices=[9, 3, 4, 5, 8]), 1):
        for scan, target in zip(x, y, strict=True):
            (index,) = np.flatnonzero((inputs == scan).all((1, 2)))
            assert index in (9, 3, 4, 5, 8)
            assert target.argmax() == LABELS[index]


@pytest.mark.smoke
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
            wanted = [x[:, 0, 0].tobytes() for x, _, _ in read(make(), epoch)]
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


def test_simulated_scans_fill_their_share_of_every_batch():
    beside = TrainingSet(
        np.full((5, 6, 12), 7) * np.arange(12),
        np.arange(5),
        np.full((5, 3), 1 / 3, "float32"),
        np.full(5, 0.5, "float32"),
    )
    batches = make(batch_size=4, auxiliary=[(beside, 0.25)])
    triples = read(batches, 0)
    assert len(triples) == 4  # three of the ten scans in each
    for _, targets, weights in triples:
        assert targets.shape == (4, 3)
        assert weights.tolist() == [1, 1, 1, 0.5]
        assert targets[3] == pytest.approx(1 / 3)


@pytest.mark.smoke
def test_every_line_has_a_target_until_the_scan_ends():
    images = IMAGES.astype(float)
    images[1, 4:] = 0
    lines = np.zeros((2, 6), int)
    lines[0, 3:] = 2
    lines[1, 4:] = -1
    scans = TrainingSet(
        images,
        np.array([0, 1]),
        np.eye(3, dtype="float32")[[0, 0]],
        np.array([2, 1], "float32"),
        line_labels=lines,
        change_line=np.array([2, -1]),
        fixed=np.array([True, True]),
    )
    batches = Batches(scans, 2, 0, heads=HEADS)
    _, targets, weights = batches.make(0, np.array([0, 1]), 0)
    assert targets["state"][0].argmax(1).tolist() == [0, 0, 0, 2, 2, 2]
    assert weights["state"].tolist() == [[2] * 6, [1, 1, 1, 1, 0, 0]]
    assert targets["change"][..., 0].tolist() == [[0, 0, 0, 1, 1, 1], [0] * 6]
    assert weights["change"].tolist() == [[1, 1, 0, 5, 5, 5], [1, 1, 1, 1, 0, 0]]
    assert not targets["unknown"].any()
    assert weights["unknown"].tolist() == [[1] * 6, [1, 1, 1, 1, 0, 0]]


def test_other_surfaces_teach_that_they_are_unknown_and_nothing_else():
    images = IMAGES.astype(float)
    images[1, 4:] = 0
    others = made_up_dataset(4, images=images[:4], lines=np.full(4, 6))
    batches = Batches(
        training_set(), 4, 0, heads=HEADS, auxiliary=[(unknown_surface_set(others, 3), 0.5)]
    )
    _, targets, weights = batches.make(0, np.arange(10), 0)
    assert targets["unknown"][:, 0, 0].tolist() == [0, 0, 1, 1]
    assert weights["unknown"].any(1).all()
    assert not weights["state"][2:].any()
    assert not weights["change"].any()


def test_weights_are_what_fit_multiplies_the_loss_by():
    dataset = made_up_dataset(8, images=np.tile(IMAGES[:8], (1, 1, 1)), lines=np.full(8, 6))
    scans = make_training_set(dataset, np.array([0, 1, 2, 3, 4]))
    entry = keras.Input((6, 12))
    model = keras.Model(entry, keras.layers.Dense(4)(keras.layers.Flatten()(entry)))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss)
    told = model.fit(Batches(scans, 5, 0), shuffle=False, verbose=0).history["loss"][0]
    logits = model.predict(standardise_lines(IMAGES[:5]), verbose=0)
    labels = dataset.labels[:5]
    each = np.log(np.exp(logits).sum(1)) - logits[np.arange(5), labels]
    assert told == pytest.approx(
        np.mean(each * [5 / 8, 5 / 4, 5 / 4, 5 / 4, 5 / 8]), rel=1e-4
    )


def shares(world, devices, **settings):
    return [
        read(make(rank=rank, world=world, devices=devices, **settings), 2)
        for rank in range(world)
    ]


@pytest.mark.parametrize("heads", [(), HEADS, ("state",)])
@pytest.mark.parametrize("world", [2, 4])
def test_shares_of_all_processes_are_the_batch_of_one(world, heads):
    beside = TrainingSet(
        np.full((5, 6, 12), 7) * np.arange(12),
        np.arange(5),
        np.full((5, 3), 1 / 3, "float32"),
        np.full(5, 0.5, "float32"),
    )
    lines = np.where(np.arange(10) % 3 == 0, 2, -1)
    settings = {
        "augment": AugmentConfig(rotate=0.5, zoom=0.2, pan=0.1, noise=0.3, min_lines=2),
        "auxiliary": [(beside, 0.125)],
        "batch_size": 8,
        "heads": heads,
    }
    scans = training_set(change_line=lines, fixed=lines >= 0)
    batches = Batches(scans, seed=0, **settings)
    parts = [
        Batches(scans, seed=0, rank=rank, world=world, devices=world, **settings)
        for rank in range(world)
    ]
    for number in range(len(batches)):
        whole = keras.tree.flatten(batches.make(3, batches.order(3), number))
        given = [keras.tree.flatten(each.make(3, each.order(3), number)) for each in parts]
        for one, *others in zip(whole, *given, strict=True):
            assert np.array_equal(one, np.concatenate(others))


@pytest.mark.parametrize(("world", "devices"), [(1, 3), (3, 3), (3, 6), (5, 10)])
def test_rows_that_fill_up_have_no_weight_and_the_mean_stays(world, devices):
    whole = read(make(), 2)
    for number, parts in enumerate(zip(*shares(world, devices), strict=True)):
        inputs, _, weights = (np.concatenate(each) for each in zip(*parts, strict=True))
        assert len(inputs) % devices == 0
        assert np.array_equal(inputs[:4], whole[number][0])
        assert weights[:4] == pytest.approx(len(inputs) / 4)
        assert not weights[4:].any()
        assert weights.mean() == pytest.approx(whole[number][2].mean())


def test_a_batch_that_is_filled_up_gives_the_same_loss():
    entry = keras.Input((6, 12))
    logits = keras.layers.Dense(3)(keras.layers.Flatten()(entry))
    model = keras.Model(entry, logits)
    start, told = model.get_weights(), []
    for devices in (1, 3):
        model.set_weights(start)
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
        model.compile(keras.optimizers.SGD(0.1), loss)
        history = model.fit(make(devices=devices), shuffle=False, epochs=2, verbose=0)
        told.append((history.history["loss"], model.get_weights()[0]))
    np.testing.assert_allclose(told[0][0], told[1][0], rtol=1e-6)
    np.testing.assert_allclose(told[0][1], told[1][1], atol=1e-6)
