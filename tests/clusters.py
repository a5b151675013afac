"""Ray clusters for tests: several nodes, all on this machine."""

import os
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def nodes_of(*cores):
    """A cluster whose nodes have so many cores, the first of them the driver's."""
    pytest.importorskip("ray", reason="Ray is an optional package: pip install ray")
    with pytest.MonkeyPatch.context() as patch:
        here = Path(__file__).parent
        found = [here, here / "execute", here.parent]  # by a node that runs what tests define
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, found)))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args={"num_cpus": cores[0]})
        try:
            for count in cores[1:]:
                made.add_node(num_cpus=count)
            yield made
        finally:
            made.shutdown()
