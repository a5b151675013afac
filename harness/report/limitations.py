"""What the pages do not say, and what was left out of them: a sentence where it applies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness.analysis.study import Study
from harness.errors import StoreError
from harness.metrics.distances import METRICS
from harness.metrics.enough import FEWEST_IMAGES_A_FEATURE
from harness.report.findings.unsaid import unsaid
from harness.report.tables import heading
from harness.report.wording import are, count, listed, number
from harness.work.results import SHOWN_FILES, CellResult, Experiment, R

NOT_COVERED = (
    "Not covered: another data set, network, size or length of training; the choice of the "
    "reference images; what the features do not see. The best of many cells is picked by the "
    "numbers it is evaluated by, so it is a little flattered."
)
QUANTITY = {  # what each field of analysis.study.Quantity is called
    "data": "data", "data_fingerprint": "the images of a data set of one name",
    "extractor": "extractor", "extractor_fingerprint": "the weights of an extractor of one name",
    "reference": "reference", "images": "number of images", "precision": "precision",
}  # fmt: skip

Missing = Counter[tuple[str, str]]  # how many results lack a file: (its name, what is wrong)


def limitations(experiment: Experiment, studies: Sequence[Study], missing: Missing) -> list[str]:
    """Every limitation of an experiment whose results fall into these studies, and of which these
    files are not there."""
    return [
        *_of_the_grid(experiment, studies), *_of_the_images(experiment),
        *_of_the_measurements(experiment),
        *_of_the_sizes(experiment, studies), *_unsaid(studies), *_files(missing), NOT_COVERED,
    ]  # fmt: skip


def with_what_is_there(experiment: Experiment) -> tuple[Experiment, Missing]:
    """The experiment without the files that cannot be read, so that nothing asks for them; and
    which those are."""
    missing: Missing = Counter()

    def kept(result: R) -> R:
        known = result.artifacts.checksums
        shown = [name for name in SHOWN_FILES if name in known]
        troubles = {name: trouble for name in shown if (trouble := _trouble(result, name))}
        missing.update(troubles.items())
        if not troubles:
            return result
        checksums = {name: known[name] for name in known if name not in troubles}
        return replace(result, artifacts=replace(result.artifacts, checksums=checksums))

    cells = tuple(map(kept, experiment.cells))
    trainings = tuple(map(kept, experiment.trainings))
    return replace(experiment, cells=cells, trainings=trainings), missing


def _trouble(result: R, name: str) -> str:
    try:
        return "missing" if result.artifacts.read(name) is None else ""
    except StoreError:
        return "damaged"


def _files(missing: Missing) -> Iterator[str]:
    if missing:
        troubles = sorted((name, what, n) for (name, what), n in missing.items())
        files = listed(f"{name} of {count(n, 'result')} ({what})" for name, what, n in troubles)
        yield (
            f"Files could not be read: {files}. Figures that show them lack these, and "
            "intervals that are paired image by image without them are wider. Use harness run with "
            "--redo to make them again, or put them back."
        )


def _of_the_grid(experiment: Experiment, studies: Sequence[Study]) -> Iterator[str]:
    missing = experiment.expected_cells - sum(o.cell.weights == "final" for o in experiment.cells)
    if missing > 0:
        yield (
            f"{count(missing, 'cell')} of {experiment.expected_cells:,} {are(missing)} missing; "
            "what is said holds for the rest."
        )
    if experiment.looked:
        before = listed(experiment.looked)
        yield (
            f"Training seeds were added by hand after a report on {before} of them, so the error "
            "rate of verdicts on what is trained is above 5 %. Use --until decided, which keeps it."
        )
    for reason, cells in sorted(experiment.left_out.items()):
        yield f"{count(cells, 'recorded cell')} {are(cells)} left out: {reason.rstrip('.')}."
    if len(studies) > 1:
        first = studies[0].quantity
        differing = {name for one in studies[1:] for name in first.differences(one.quantity)}
        what = listed(words for name, words in QUANTITY.items() if name in differing)
        names = [f"{count(len(one.results), 'cell')} with {heading(one)}" for one in studies]
        yield (
            f"The cells fall into {len(studies)} groups that differ in {what} and are not "
            f"comparable ({'; '.join(names)}). Answer, figures and findings are about the first; "
            "the others have their own tables."
        )


def _of_the_images(experiment: Experiment) -> Iterator[str]:
    """What was left out of the images, or altered in a way that shows in what is learned."""
    readings = [one.reading for one in experiment.trainings if one.reading]
    remarks = [remark for reading in readings for remark in reading.remarks() if remark.limits]
    for remark in dict.fromkeys(remarks):
        yield f"Data: {remark.what}. {remark.why}. {remark.use}."


def _of_the_measurements(experiment: Experiment) -> Iterator[str]:
    machines = sorted({one.provenance.machine for one in experiment.cells} - {""})
    if len(machines) > 1:
        yield (
            f"Cells were measured on {len(machines)} machines ({listed(machines)}). Quality is "
            "compared across them, seconds are not: those shown are of the machine with most cells."
        )
    if shared := sum(one.provenance.is_shared for one in experiment.cells):
        yield (
            f"Seconds of {count(shared, 'cell')} were taken on a machine that other jobs may have "
            "used at the same time: they may be too long."
        )
    runs = [experiment.runs.get(one.cell.key) for one in experiment.cells]
    if reused := sum(run.is_reused for run in runs if run):
        were = "was" if reused == 1 else "were"
        yield f"{count(reused, 'cell')} {were} measured by an earlier run and reused."
    parts = [n for one in experiment.trainings if (n := one.provenance.micro_batches) > 1]
    if parts:
        yield (
            f"{count(len(parts), 'training')} added up gradients over as many as {max(parts)} "
            "parts of each batch, for which there was no memory as a whole: the same steps but for "
            "rounding, and more seconds."
        )
    if fitted := [one.cost.fit_seconds for one in experiment.cells if one.path.times]:
        yield (
            f"The times of {count(len(fitted), 'cell')} were fitted to their network, which took "
            f"{number(max(fitted), 2)} s at most for each network and schedule; seconds and "
            "evaluations of cells do not count it (`fitted_times` in the results lists the times)."
        )
    reasons: dict[str, set[str]] = {}
    for one in experiment.cells:
        for name, reason in one.undefined.items():
            reasons.setdefault(name, set()).add(reason)
    for name, given in sorted(reasons.items()):
        yield f"No {name} is given for some cells: {min(given)}"
    measured = {name for one in experiment.cells for name in one.measurements}
    if unknown := sorted(name for name in measured if not is_known(name)):
        what, they = ("a metric", "it") if len(unknown) == 1 else ("metrics", "they")
        yield (
            f"{listed(unknown)} {are(len(unknown))} {what} of a package that is not installed "
            f"here or cannot be loaded: {they} {are(len(unknown))} taken to be better where lower."
        )


def is_known(metric: str) -> bool:
    """Whether its package is installed here, and can be loaded."""
    return metric in METRICS and not METRICS.problem(metric)


def _of_the_sizes(experiment: Experiment, studies: Sequence[Study]) -> Iterator[str]:
    def is_thin(one: CellResult) -> bool:
        return one.cell.images < FEWEST_IMAGES_A_FEATURE * one.feature_width

    thin = next((o for study in studies for o in study.results if is_thin(o)), None)
    if thin and any("fid" in one.measurements for one in experiment.cells):
        yield (
            f"FID of {thin.cell.images:,} images with {thin.feature_width:,} features is hardly "
            "known: its bias is larger than its correction, and its error rough. Use about "
            f"{FEWEST_IMAGES_A_FEATURE * thin.feature_width:,} images, or KID, which is unbiased."
        )
    if clamped := sum(one.path.clamped > 0 for one in experiment.cells):
        yield (
            f"{count(clamped, 'cell')}, sampled under another schedule than trained under, asked "
            f"{'its' if clamped == 1 else 'their'} network about noise levels that it was not "
            "trained on; the nearest that it was trained on took their place (`clamped_times` in "
            "the results counts them)."
        )


def _unsaid(studies: Sequence[Study]) -> list[str]:
    """Of the study that the findings are about."""
    return next((unsaid(one) for one in studies if one.metrics), [])
