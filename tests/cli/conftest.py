"""Fixtures of the tests of the command line."""

import pytest
from helpers import FEW_LINES


@pytest.fixture(autouse=True)
def few_lines_seen(monkeypatch):
    """Score after few lines and many, not at ten lengths, which compile one by one."""
    monkeypatch.setattr("stm_keras.inference.evaluate.LINES_SEEN", FEW_LINES)
