"""The cluster that the tests of this folder share."""

import pytest
from slurm_cluster import cluster


@pytest.fixture(scope="session")
def slurm():
    with cluster() as found:
        yield found
