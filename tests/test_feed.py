"""What `fit` and `predict` get under TensorFlow, so that no epoch waits for its end."""

import keras
import numpy as np
import pytest

from stm_keras.backend import feed, predict


class Counted(keras.utils.PyDataset):
    """Three batches of four rows, other ones in each epoch."""

    def __init__(self):
        super().__init__()
        self.epoch = 0

    def __len__(self):
        return 3

    def __getitem__(self, number):
        rows = np.full((4, 2), 10 * self.epoch + number, "float32")
        return rows, {"a": rows[:, :1], "b": rows}, {"a": rows[:, 0], "b": rows[:, 0]}


class Next(keras.callbacks.Callback):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches
        self.steps = []

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append((self.batches.epoch, batch))


@pytest.fixture
def model():
    entry = keras.Input((2,))
    sums = keras.layers.Dense(1, kernel_initializer="ones")(entry)
    return keras.Model(entry, {"a": sums, "b": keras.layers.Rescaling(2.0)(entry)})


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="only there it waits")
def test_tensorflow_gets_every_batch_of_every_epoch_and_nothing_to_tune():
    batches = Counted()
    given = feed(batches)
    assert given.options().autotune.enabled is False
    assert int(given.cardinality()) == 3
    for batches.epoch in (0, 1):
        for number, batch in enumerate(given):
            keras.tree.map_structure(np.testing.assert_array_equal, batch, batches[number])
        assert number == 2


@pytest.mark.skipif(keras.config.backend() == "tensorflow", reason="the test above")
def test_other_backends_get_the_batches_themselves():
    batches = Counted()
    assert feed(batches) is batches


def test_fit_knows_the_number_of_steps_and_sees_what_an_epoch_begins_with(model):
    batches = Counted()
    model.compile("sgd", {"a": "mae", "b": "mae"})
    follow = Next(batches)
    history = model.fit(
        feed(batches), epochs=2, shuffle=False, verbose=0, callbacks=[follow]
    )
    assert follow.params["steps"] == 3
    assert follow.steps == [(epoch, step) for epoch in (0, 1) for step in range(3)]
    # weighted by their values: the first epoch has rows of 0, 1 and 2, then of 10, 11 and 12
    means = [np.mean([v * v for v in rows]) for rows in ((0, 1, 2), (10, 11, 12))]
    assert history.history["b_loss"] == pytest.approx(means, rel=1e-5)


@pytest.mark.parametrize("rows", [1, 4, 6])
def test_prediction_is_that_of_the_model_also_with_rows_left_over(model, rows):
    inputs = np.arange(2 * rows, dtype="float32").reshape(rows, 2)
    out = predict(model, inputs, 4)
    assert set(out) == {"a", "b"}
    np.testing.assert_allclose(out["a"], inputs.sum(1, keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(out["b"], 2 * inputs, rtol=1e-6)
