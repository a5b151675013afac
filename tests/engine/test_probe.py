"""What a probe of this machine measures is what the work does."""

from dataclasses import replace

import numpy as np
import pytest

from harness.engine import probe
from harness.metrics.distances import METRICS


@pytest.mark.parametrize(("width", "groups"), [(64, 50), (2048, 10)])
def test_the_metrics_of_a_probe_leave_out_as_many_groups_as_those_of_a_cell(
    monkeypatch, width, groups
):
    asked = []

    def left_out(features, reference, *, groups):
        asked.append((*features.shape, groups))
        return np.zeros(groups)

    fid = replace(METRICS["fid"], left_out=left_out)
    monkeypatch.setattr(probe, "METRICS", {"fid": fid, "precision": METRICS["precision"]})
    assert probe.metric_seconds(["fid", "precision"], 300, 500, width) > 0
    assert {found[2] for found in asked} == {groups}
    assert max(found[1] for found in asked) == min(width, probe.MOST_WIDTH)
