from dataclasses import replace

import numpy as np
import pytest

from stm_keras.errors import UsageError
from stm_keras.simulate import (
    GENERIC_KINDS,
    SimulationConfig,
    clear_changes,
    simulate,
    simulate_unknown,
)

OFTEN = SimulationConfig(size=32, p_tip_change=0.6)


def test_scans_with_an_unnamed_change_are_not_clear():
    dataset = simulate(256, 0, OFTEN)
    clear = clear_changes(dataset)
    unnamed = (dataset.parameters["apex_line"] >= 0) & (dataset.change_line < 0)
    unstable = dataset.parameters["generic_kind"] == GENERIC_KINDS.index("unstable")
    assert unnamed.any()
    assert unstable.any()
    assert np.array_equal(clear, ~(unnamed | unstable))


def test_in_clear_scans_the_class_changes_where_it_is_said_and_nowhere_else():
    dataset = simulate(256, 1, OFTEN)
    dataset = dataset.take(np.flatnonzero(clear_changes(dataset)))
    assert (dataset.change_line >= 0).any()
    assert (dataset.change_line < 0).any()
    for labels, change, lines in zip(
        dataset.line_labels, dataset.change_line, dataset.lines, strict=True
    ):
        changes = np.flatnonzero(np.diff(labels[:lines])) + 1
        assert list(changes) == ([change] if change >= 0 else [])


def test_other_surfaces_are_clear():
    assert clear_changes(simulate_unknown(5, 0, config=OFTEN)).all()


def test_scans_without_the_truth_are_refused():
    dataset = simulate(2, 0, OFTEN)
    with pytest.raises(UsageError, match="`dataset` has no change lines"):
        clear_changes(replace(dataset, change_line=None))
    with pytest.raises(UsageError, match="`dataset` has no parameter `apex_line`"):
        clear_changes(replace(dataset, parameters={}))
