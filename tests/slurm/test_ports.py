"""A cluster finds its ports also where a killed test run left another."""

import socket

from helpers import ONCE
from slurm_cluster import free_ports

pytestmark = ONCE


def test_ports_that_somebody_has_are_left_alone():
    first = free_ports(41000)
    with socket.socket() as taken:
        taken.bind(("", first + 2))
        assert free_ports(first) > first
    assert free_ports(first) == first
