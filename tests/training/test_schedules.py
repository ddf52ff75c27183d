import copy

import keras
import numpy as np
import pytest

from stm_keras.models import vit
from stm_keras.settings import TrainConfig
from stm_keras.training.optimizer import (
    UNDECAYED,
    WarmUp,
    make_optimizer,
    plateau_scale,
)


def rates(schedule, steps):
    return [float(keras.ops.convert_to_numpy(schedule(step))) for step in steps]


def test_warm_up_rises_linearly_then_falls_as_a_cosine():
    schedule = WarmUp(1e-4, warmup_steps=10, total_steps=110, start=1e-6)
    wanted = [1e-6, 5.05e-5, 1e-4, 5e-5, 0, 0]
    assert rates(schedule, [0, 5, 10, 60, 110, 200]) == pytest.approx(wanted, abs=1e-9)


def test_constant_stays():
    schedule = WarmUp(1e-3, 4, 10, decay="constant", scale=0.5)
    assert rates(schedule, [4, 9, 50]) == pytest.approx([5e-4] * 3)


def test_without_warm_up_the_first_step_is_at_the_peak():
    assert rates(WarmUp(1e-3, 0, 10), [0]) == pytest.approx([1e-3])


def test_a_schedule_survives_its_config():
    schedule = WarmUp(1e-4, 3, 20, 1e-7, "constant", 0.25)
    config = keras.optimizers.schedules.serialize(schedule)
    again = keras.optimizers.schedules.deserialize(copy.deepcopy(config))
    assert again.get_config() == schedule.get_config()


def test_wrong_schedules_are_refused():
    with pytest.raises(ValueError, match=r'`decay` must be "cosine" .* decay=linear'):
        WarmUp(1, 1, 2, decay="linear")
    with pytest.raises(
        ValueError, match=r"`warmup_steps` must be between .* warmup_steps=5"
    ):
        WarmUp(1, 5, 2)


def test_only_matrices_decay():
    model = vit(3, 8, 4, layers=1, heads=2, dim=4, mlp_dim=6)
    config = TrainConfig(learning_rate=0.1, start_learning_rate=0.1, weight_decay=0.5)
    optimizer = make_optimizer(config, steps_per_epoch=5)
    optimizer.build(model.trainable_variables)
    before = [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]
    zeros = [keras.ops.zeros(v.shape) for v in model.trainable_variables]
    optimizer.apply(zeros, model.trainable_variables)
    for variable, old in zip(model.trainable_variables, before, strict=True):
        new = keras.ops.convert_to_numpy(variable)
        if any(name in variable.path for name in UNDECAYED):
            np.testing.assert_array_equal(new, old)
        else:
            np.testing.assert_allclose(new, old * 0.95, rtol=1e-5)


def test_the_norms_biases_and_positions_are_undecayed():
    model = vit(3, 8, 4, layers=1, heads=2, dim=4, mlp_dim=6)
    free = {
        v.path for v in model.trainable_variables if any(n in v.path for n in UNDECAYED)
    }
    decayed = {
        v.path.rsplit("/", 1)[1] for v in model.trainable_variables if v.path not in free
    }
    assert decayed == {"kernel"}


def test_plateau_halves_after_patience_and_again():
    values = [0.5, 0.6, 0.6, 0.6, 0.7, 0.7, 0.7, 0.7, 0.7]
    found = [plateau_scale(values[:n], 0.5, 2) for n in range(len(values) + 1)]
    assert found == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125]


def test_warm_up_epochs_are_not_waited_for():
    assert plateau_scale([0.5] * 4, 0.5, 2, start=3) == 1
    assert plateau_scale([0.5] * 5, 0.5, 2, start=3) == 0.5
