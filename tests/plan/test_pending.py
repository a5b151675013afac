"""The plan: what is pending of a grid, from what the store keeps and what is recorded."""

import json
from dataclasses import replace

import made
import pytest

from harness.errors import BadOption
from harness.plan.forecast import Forecast
from harness.plan.grid import expand, load_grid
from harness.plan.pending import metrics_of, pending
from harness.store import FEATURES, Store, write_bytes
from harness.work.cells import Part
from harness.work.filters import Filter
from harness.work.options import Options
from harness.work.reading import Files, Reading
from harness.work.speeds import Speeds


@pytest.fixture
def grid(grid_file):
    return load_grid(grid_file)


@pytest.fixture
def cells(grid):
    return expand(grid)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def keep(store, *works, checkpoints=True, **measured):
    """Finished trainings and cells, with all that is kept of them."""
    for work in works:
        if hasattr(work, "training"):
            found = measured or {"kid": 0.1, "fid": 1.0}
            store.keep(made.result(work, {FEATURES: b"features"}, **found))
        else:
            store.keep(made.trained(work))
            write_bytes(store.model(work.key, "weights.safetensors"), b"")
            if checkpoints:
                write_bytes(store.model(work.key, "checkpoint.safetensors"), b"")


def done(*works):
    """As the tracker says it of these works."""
    return {work.key: frozenset({"kid", "fid", "nfe"}) for work in works}


def all_of(cells, plan):
    return [*cells, *plan.checkpoints, *plan.trainings]


def test_a_decay_that_is_added_is_said_to_train_again(grid_file, store):
    def plan(*decays):
        grid = load_grid(grid_file, [f"training.ema=[{','.join(map(str, decays))}]"])
        return pending(grid, expand(grid), store, {}, Options())

    keep(store, *plan(0.9).trainings)
    more = plan(0.9, 0.99)
    assert {one.ema for one in more.to_train} == {0.99}
    [told] = more.warnings
    assert "2 trainings are made again" in told
    for one in more.to_train:
        header = json.dumps({"__metadata__": {"decays": "[0.99]"}}).encode()
        write_bytes(store.state(one), len(header).to_bytes(8, "little") + header)
    assert not plan(0.9, 0.99).warnings
    [told] = plan(0.9, 0.99, 0.999).warnings
    assert "2 trainings begin anew" in told
    keep(store, *more.trainings)
    store.remove_states(more.trainings)
    assert not plan(0.9, 0.99).warnings


def test_at_first_everything_is_pending(grid, cells, store):
    plan = pending(grid, cells, store, {}, Options())
    assert [*plan.cells] == cells
    assert len(plan.to_train) == 2
    assert {*plan.to_score} == {*cells, *plan.checkpoints}
    assert len(plan.checkpoints) == 2
    assert plan.to_record == plan.to_redo == ()
    assert plan
    assert plan.is_work


def test_a_plan_says_what_was_read(grid, cells, store):
    reading = Reading(
        90, 16, found=93, skipped={".heic": Files(3, "a.heic")}, classes={"cat": 50, "dog": 40},
        altered={"cropped": Files(81, "b.png")},
    )  # fmt: skip
    plan = replace(pending(grid, cells, store, {}, Options()), images=reading)
    assert "2 classes, 40 to 50 images each" in plan.text()
    assert "pip install pillow-heif" in plan.text()
    assert "81 images cropped" in plan.text()
    images = json.loads(json.dumps(plan.as_json()))["images"]
    assert images["skipped"][".heic"]["count"] == 3


def test_what_is_recorded_is_finished_even_where_the_store_is_gone(grid, cells, store):
    first = pending(grid, cells, store, {}, Options())
    recorded = done(*all_of(cells, first))
    assert not pending(grid, cells, store, recorded, Options())


def test_what_only_the_store_has_is_recorded_and_not_done_again(grid, cells, store):
    first = pending(grid, cells, store, {}, Options())
    keep(store, *first.trainings, *cells)
    keep(store, *first.checkpoints, kid=0.2)
    plan = pending(grid, cells, store, {}, Options())
    assert {*plan.to_record} == {*all_of(cells, first)}
    assert plan
    assert not plan.is_work


def test_a_metric_that_is_added_is_scored_from_kept_features_without_training(grid, cells, store):
    first = pending(grid, cells, store, {}, Options())
    keep(store, *cells, kid=0.1)
    keep(store, *first.checkpoints, kid=0.1)
    recorded = {key: frozenset({"kid"}) for key in done(*all_of(cells, first))}
    plan = pending(grid, cells, store, recorded, Options())
    assert [*plan.to_score] == cells  # the checkpoints need the deciding metric only
    assert plan.to_train == ()


def test_a_scale_without_pure_noise_is_completed_where_features_are_kept(grid, cells, store):
    scale = {"half_resolution": 0.1, "noisy": 0.2}
    keep(store, cells[0], kid=made.measured(0.3, 0.01, baseline=0.0, degraded=scale), fid=1.0)
    everything = all_of(cells, pending(grid, cells, store, {}, Options()))
    names = frozenset({"kid", "fid", *(f"kid_{name}" for name in scale)})
    plan = pending(grid, cells, store, {work.key: names for work in everything}, Options())
    assert [*plan.to_score] == cells[:1]
    assert plan.to_train == ()
    assert "0 to sample and score" in plan.text()
    assert "1 cell to score from kept features" in plan.text()


def test_what_is_scored_from_kept_features_is_not_announced_as_sampling(grid, cells, store):
    everything = all_of(cells, pending(grid, cells, store, {}, Options()))
    keep(store, *everything, kid=0.1)
    plan = pending(grid, cells, store, {}, Options())
    assert len(plan.from_features) == len(plan.to_score) == len(cells)  # FID is lacking
    assert plan.to_sample == []
    assert plan.evaluations == 0
    assert "0 to sample and score" in plan.text()
    speeds = Speeds(1.0, 1.0, 1.0, "a guess")
    plan = replace(plan, forecast=Forecast({cells[0].training.model: speeds}))
    assert plan.cost() == ""
    assert plan.seconds(cells[0]) is None


def test_what_is_only_to_be_recorded_is_not_nothing(grid, cells, store):
    everything = all_of(cells, pending(grid, cells, store, {}, Options()))
    keep(store, *everything)
    text = pending(grid, cells, store, {}, Options()).text()
    assert f"{len(everything)} to record from the store" in text
    assert "Nothing to do" not in text


def test_a_cell_whose_features_are_gone_needs_its_network(grid, cells, store):
    first = pending(grid, cells, store, {}, Options())
    keep(store, *cells, *first.checkpoints, kid=0.1)
    store.cell(cells[0].key, FEATURES).unlink()
    recorded = {cell.key: frozenset({"kid"}) for cell in cells}
    plan = pending(grid, cells, store, recorded, Options())
    assert plan.to_train == (cells[0].training,)


def test_a_metric_that_is_undefined_for_a_cell_is_not_asked_for_again(grid, cells, store):
    keep(store, cells[0], kid=0.1, undefined={"fid": "too few images"})
    plan = pending(grid, cells, store, {}, Options())
    assert cells[0] in plan.to_record


def test_cells_that_are_asked_for_alone_bring_their_own_checkpoint_only(grid, cells, store):
    plan = pending(grid, cells, store, {}, Options(only=Filter("schedule=cosine,steps=3")))
    assert {cell.steps for cell in plan.cells} == {3}
    assert len(plan.to_train) == 1
    assert [replace(cell, weights="final") in plan.cells for cell in plan.checkpoints] == [True]
    with pytest.raises(BadOption, match="no cell of the grid matches"):
        pending(grid, cells, store, {}, Options(only=Filter("steps=7")))


def test_what_is_done_again_is_pending_with_its_checkpoint(grid, cells, store):
    first = pending(grid, cells, store, {}, Options())
    keep(store, *first.trainings, *cells)
    keep(store, *first.checkpoints, kid=0.2)
    recorded = done(*all_of(cells, first))
    plan = pending(grid, cells, store, recorded, Options(redo=Filter("sampler=ddim,steps=3")))
    finals = {cell for cell in plan.to_score if cell.weights == "final"}
    assert {(cell.sampler.name, cell.steps) for cell in finals} == {("ddim", 3)}
    assert {replace(cell, weights="final") for cell in plan.to_score} == finals
    assert plan.to_train == ()
    assert {*plan.to_redo} == {*plan.to_score}


def test_a_training_is_done_again_only_with_all_its_cells(grid, cells, store):
    first = pending(grid, cells, store, {}, Options())
    keep(store, *first.trainings, *cells)
    recorded = done(*all_of(cells, first))
    plan = pending(grid, cells, store, recorded, Options(redo=Filter("schedule=cosine")))
    [training] = plan.to_train
    assert str(training.schedule) == "cosine"
    assert training in plan.to_redo
    some = pending(grid, cells, store, recorded, Options(redo=Filter("schedule=cosine,steps=2")))
    assert some.to_train == ()


def test_timing_again_needs_the_network_but_no_checkpoint(grid, cells, store):
    first = pending(grid, cells, store, {}, Options())
    keep(store, *first.trainings, *cells)
    recorded = done(*all_of(cells, first))
    plan = pending(grid, cells, store, recorded, Options(retime=True))
    assert [*plan.to_score] == cells
    assert plan.to_train == ()


def test_a_checkpoint_cell_is_measured_by_the_metric_that_decides(grid, cells):
    assert metrics_of(cells[0], grid) == ("kid", "fid")
    assert metrics_of(replace(cells[0], weights="0.9"), grid) == ("kid",)


# The order of the work.


def seeds_of(works):
    trainings = [getattr(work, "training", work) for work in works]
    return [(str(training.schedule), training.seed) for training in trainings]


@pytest.fixture
def three_seeds(grid_file):
    grid = load_grid(grid_file, ["seeds=[2, 0, 1]", "steps=[3]"])
    return grid, expand(grid)


def test_trainings_go_by_seed_so_that_schedules_can_be_compared_early(three_seeds, store):
    plan = pending(*three_seeds, store, {}, Options())
    both = ("linear", "cosine")
    assert seeds_of(plan.to_train) == [(name, seed) for seed in (2, 0, 1) for name in both]


def test_cells_follow_their_trainings_and_checkpoint_cells_the_others(three_seeds, store):
    plan = pending(*three_seeds, store, {}, Options())
    nothing, *rounds = plan.rounds(lambda: 2, 2)
    assert nothing == ((), [])
    assert [seeds_of(trainings) for trainings, _ in rounds] == [
        [("linear", seed), ("cosine", seed)] for seed in (2, 0, 1)
    ]
    for trainings, cells in rounds:
        assert [cell.training for cell in cells] == [one for one in trainings for _ in range(3)]
        assert [cell.weights for cell in cells] == ["final", "final", "0.9"] * 2
    assert [len(trainings) for trainings, _ in plan.rounds(lambda: 4, 2)] == [0, 4, 2]
    assert [cell for _, cells in plan.rounds(lambda: 4, 2) for cell in cells] == [*plan.to_score]


def test_where_cells_go_one_by_one_those_of_each_training_are_a_round(three_seeds, store):
    plan = pending(*three_seeds, store, {}, Options())
    rounds = [*plan.rounds(lambda: 2, 1)]
    assert [len(trainings) for trainings, _ in rounds] == [2, 0] * 3
    assert [len({cell.training for cell in cells}) for _, cells in rounds] == [1] * 6
    assert [cell for _, cells in rounds for cell in cells] == [*plan.to_score]


def test_cells_that_wait_for_no_training_come_first(three_seeds, store):
    grid, cells = three_seeds
    last = cells[-1].training
    keep(store, last)
    keep(store, cells[0], kid=0.1)  # of the first training, and scored from kept features
    plan = pending(grid, cells, store, {}, Options())
    (_, ready), *rounds = plan.rounds(lambda: 1, 2)
    assert [*ready] == [cells[0], *(cell for cell in plan.to_score if cell.training == last)]
    assert last not in plan.to_train
    assert {*ready, *(cell for _, some in rounds for cell in some)} == {*plan.to_score}


def test_a_fit_is_made_once_for_each_network_and_schedule(cells, grid, store):
    fitted = [replace(cell, spacing=Part("fitted")) for cell in cells]
    plan = pending(grid, fitted, store, {}, Options())
    assert len({store.fit(cell) for cell in plan.to_fit}) == len(plan.to_fit)
    assert len(plan.to_fit) == 2 * len(plan.to_train)  # at the checkpoint, too
    keep(store, *plan.trainings)
    for cell in plan.to_fit:
        write_bytes(store.fit(cell), b"{}")
    assert pending(grid, fitted, store, {}, Options()).to_fit == ()
    assert pending(grid, cells, store, {}, Options()).to_fit == ()
