"""What a page says that it does not say, or that it left out."""

from dataclasses import replace

from experiments import with_metric

from harness.analysis.study import studies
from harness.errors import PartFailed
from harness.report import contents, page
from harness.report.limitations import limitations, with_what_is_there
from harness.report.recipe import recipe
from harness.work.reading import Files, Reading
from harness.work.results import PURE_NOISE, Run


def said(experiment):
    known, missing = with_what_is_there(experiment)
    return " ".join(limitations(known, studies(known), missing))


def test_results_without_limitations_have_the_general_one(results, change):
    def scaled(one, n):
        return with_metric(one, "kid", degraded={PURE_NOISE: 2.5})

    assert said(change(results, scaled)).startswith("Not covered: another data set")
    assert said(results).startswith("Whether the networks learned anything was not tested")


def test_limitations_name_what_is_missing_reused_and_measured_elsewhere(results, change):
    def elsewhere(one, n):
        return one if n else replace(one, provenance=replace(one.provenance, machine="another"))

    moved = change(results, elsewhere)
    reused = {**moved.runs, moved.cells[0].cell.key: Run("r", is_reused=True)}
    text = said(replace(moved, runs=reused, expected_cells=50))
    assert "2 cells of 50 are missing" in text
    assert "1 cell was measured by an earlier run and reused" in text
    assert "measured on 2 machines" in text


def test_trainings_whose_batches_did_not_fit_into_memory_are_told(results):
    first, *others = results.trainings
    parts = replace(first, provenance=replace(first.provenance, micro_batches=4))
    text = said(replace(results, trainings=(parts, *others)))
    assert "1 training added up gradients over as many as 4 parts of each batch" in text
    assert "parts of each batch" not in said(results)


def test_what_became_of_files_is_a_limitation_where_it_matters_else_in_the_recipe(results):
    reading = Reading(
        90, 16, found=91, unreadable=Files(1), classes={"cat": 50, "dog": 40},
        altered={"cropped": Files(81), "enlarged": Files(7)},
    )  # fmt: skip
    trainings = tuple(replace(one, reading=reading) for one in results.trainings)
    read = replace(results, trainings=trainings)
    assert "7 images smaller than 16 pixels, enlarged" in said(read)
    assert "1 file could not be read" in said(read)
    assert "cropped" not in said(read)
    data = recipe(studies(read)[0])["Data"]
    assert "2 classes, 40 to 50 images each" in data["read"]
    assert "81 images cropped" in data["left out or altered"]
    assert "read" not in recipe(studies(results)[0])["Data"]


def test_what_fitting_steps_took_is_told_apart_from_what_cells_cost(results, change):
    def fitted(one, n):
        path = replace(one.path, times=(1.0, 0.5))
        return one if n else replace(one, path=path, cost=replace(one.cost, fit_seconds=4.0))

    text = said(change(results, fitted))
    assert "The times of 1 cell were fitted to their network, which took 4.0 s at most" in text
    assert "fitted to their network" not in said(results)


def test_cells_at_the_checkpoint_are_none_of_those_that_a_grid_has(results):
    cell = replace(results.cells[0].cell, weights="0.9")
    beside = replace(results, cells=(*results.cells[1:], replace(results.cells[0], cell=cell)))
    assert "1 cell of 48 is missing" in said(beside)


def test_groups_that_cannot_be_compared_are_told_with_what_they_differ_in(results, change):
    def fewer(one, n):
        return one if n > 2 else replace(one, cell=replace(one.cell, images=500))

    text = said(change(results, fewer))
    assert "2 groups that differ in number of images and are not comparable (45 cells with" in text

    def changed(one, n):
        return one if n > 2 else replace(one, provenance=replace(one.provenance, data="other"))

    text = said(change(results, changed))
    assert "2 groups that differ in the images of a data set of one name" in text


def test_what_was_left_out_is_told_with_its_reason(results):
    left_out = {"they were made by an earlier version of the program": 3, "it is older.": 1}
    text = said(replace(results, left_out=left_out))
    assert "3 recorded cells are left out: they were made by an earlier version of" in text
    assert "1 recorded cell is left out: it is older. " in text


def test_a_metric_without_a_value_is_told_with_the_reason(results, change):
    why = "recall needs more than 3 images."
    text = said(change(results, lambda one, n: replace(one, undefined={"recall": why})))
    assert f"No recall is given for some cells: {why}" in text


def test_metrics_of_packages_that_are_not_installed_are_named(results, change):
    text = said(change(results, lambda one, n: with_metric(one, "mine", value=1.0)))
    assert "mine is a metric of a package that is not installed here" in text


def test_a_report_says_where_fid_has_too_few_images_to_be_known(results, change):
    def wide(width):
        return said(change(results, lambda one, n: replace(one, feature_width=width)))

    assert "FID of 2,000 images with 768 features is hardly known" in wide(768)
    assert "Use about 3,840 images" in wide(768)
    assert "hardly known" not in wide(64)


def test_noise_levels_that_a_network_was_not_trained_on_are_told(everything):
    assert "48 cells, sampled under another schedule than trained under" in said(everything)


def test_a_single_training_seed_is_told(build):
    assert "One training seed gives no verdict" in said(build(steps=(5,), seeds=(0,)))
    assert "training seed" not in said(build(steps=(5,), seeds=(0, 1)))


def test_seeds_that_were_added_by_hand_are_told(results):
    assert "by hand" not in said(results)
    text = said(replace(results, looked=(3, 5)))
    assert "added by hand after a report on 3 and 5 of them" in text
    assert "--until decided" in text


def test_files_that_are_gone_or_damaged_are_told_and_no_longer_asked_for(results, tmp_path):
    def gone(name):
        return None if name == "film.png" else b"something else"

    first = replace(results.cells[0], artifacts=replace(results.cells[0].artifacts, read_from=gone))
    broken = replace(results, cells=(first, *results.cells[1:]))
    text = said(broken)
    assert "film.png of 1 result (missing)" in text
    assert "samples.png of 1 result (damaged)" in text
    known, _ = with_what_is_there(broken)
    assert not known.cells[0].artifacts.checksums
    assert known.cells[1] is broken.cells[1]


def test_a_report_that_lacks_files_is_written_again_once_they_are_back(
    results, tmp_path, monkeypatch
):
    monkeypatch.setattr(contents, "_pictures", lambda study: ([], []))
    first = replace(results.cells[0], artifacts=replace(results.cells[0].artifacts, read_from=None))
    page.write(replace(results, cells=(first, *results.cells[1:])), tmp_path)
    assert "Files could not be read" in (tmp_path / "report.md").read_text()
    assert not page.is_current(results, tmp_path)
    page.write(results, tmp_path)
    assert page.is_current(results, tmp_path)


def test_a_figure_that_cannot_be_drawn_is_told(results, tmp_path, monkeypatch):
    def drawn(name, study):
        raise PartFailed(f"plot '{name}' could not be drawn: boom.")

    monkeypatch.setattr(contents, "in_page_order", lambda: ["mine"])
    monkeypatch.setattr(contents, "figure_named", drawn)
    page.write(results, tmp_path)
    told = (tmp_path / "report.md").read_text().split("## Limitations")[1]
    assert "- The plot 'mine' could not be drawn: boom." in told
