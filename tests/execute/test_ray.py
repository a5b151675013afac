"""Jobs on a Ray cluster of three nodes, all on this machine, which share no files but by chance."""

import os
from pathlib import Path

import pytest
from executor_contract import ExecutorContract

pytest.importorskip("ray", reason="Ray is an optional package: pip install 'harness[ray]'")

from harness.execute.ray import RayCluster


@pytest.fixture(scope="module")
def nodes():
    """A cluster whose nodes have two cores each: the driver's, and two more."""
    with pytest.MonkeyPatch.context() as patch:
        ours = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(ours))  # where nodes find these tests
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
        for _ in range(2):
            made.add_node(num_cpus=2)
        yield made
        made.shutdown()


@pytest.fixture(scope="module")
def cluster(nodes):
    with RayCluster(nodes.address) as cluster:
        yield cluster


class TestOnRay(ExecutorContract):
    @pytest.fixture
    def execute(self, cluster):
        return cluster
