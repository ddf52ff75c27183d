import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True)
def one_blas_thread():
    """Scenes are drawn on one thread by `simulate`, and by the tests that look inside."""
    with threadpool_limits(1):
        yield
