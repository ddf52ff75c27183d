"""Fixtures of the tests of the command line."""

import pytest
from helpers import FEW_LINES

from stm_keras.inference import evaluate


@pytest.fixture(autouse=True, scope="package")
def few_lines_seen():
    """Score after few lines and many, not at ten lengths, which compile one by one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "LINES_SEEN", FEW_LINES)
        yield
