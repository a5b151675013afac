"""The first screen: what each question's card says, what to take, and what to run next."""

import re
from dataclasses import replace
from html import unescape

import made
import numpy as np
import pytest
from experiments import build
from studies import by_sampler, by_steps, exactly, noise_of, results, study, two_schedules

from harness.analysis.decisions import ONE_SEED
from harness.analysis.study import Study, studies
from harness.report.advice import budgets, next_commands
from harness.report.answers import answers
from harness.report.first import first_screen
from harness.work.looks import Look

LEARNS = (0.3, 0.1, 0.2, 0.05)  # linear and cosine at 5 steps, and at 50
ALONE = ([0.3], [0.1], [0.2], [0.05])  # of one training seed
UNCLEAR = {("linear", "ddim", 10): [0.30, 0.34, 0.27], ("cosine", "ddim", 10): [0.25, 0.28, 0.24]}
COMMAND = "harness run x.yaml"
MOST_WORDS = 120  # a reader of the first screen has ten seconds


def by_question(of):
    return {one.question: one for one in answers(of)}


def only(of):
    [one] = answers(of)
    return one


def commands(of, command=COMMAND):
    return [one.command for one in next_commands(of, command)]


# The cards.


def test_a_decided_question_names_its_winner_with_the_effect_and_how_sure_that_is():
    card = by_question(two_schedules(*LEARNS))["Schedule"]
    assert (card.headline, card.state) == ("cosine", "decided")
    assert re.search(r"\d+ % lower than linear \[\d+, \d+\]", card.sentence)
    assert "6 of 6 pairs" in card.sureness
    assert "3 training seeds" in card.sureness


def test_levels_that_are_not_told_apart_share_the_answer_and_the_rest_is_worse():
    card = only(by_sampler({"ddim": [0.1], "heun": [0.1001], "ddpm": [0.3]}, steps=(10,)))
    assert (card.headline, card.state) == ("ddim or heun", "partly")
    assert "ddpm" in card.sentence


def test_curves_that_cross_make_the_answer_depend_on_the_steps():
    crossing = by_sampler({"ddim": [0.1, 0.08], "ddpm": [0.3, 0.02]}, steps=(5, 50))
    card = by_question(crossing)["Sampler"]
    assert (card.headline, card.state) == ("depends on the steps", "partly")
    assert re.search(r"ddim at 5 steps.*ddpm at 50 steps", card.sentence)


def test_what_is_decided_in_some_configurations_alone_has_no_overall_winner():
    clear, vague = np.array([0.0, 0.001, -0.001]), np.array([0.0, 0.09, -0.08])
    values = {("linear", "ddim", 5): 0.3 + clear, ("cosine", "ddim", 5): 0.2 + clear,
              ("linear", "ddim", 50): 0.1 + vague, ("cosine", "ddim", 50): 0.1 - vague}  # fmt: skip
    card = by_question(study(values))["Schedule"]
    assert card.state == "partly"
    assert "cosine" not in card.headline
    assert "cosine is better at 5 steps" in card.sentence
    assert "1 of 2" in card.sureness


def test_one_training_seed_leaves_a_schedule_open_and_says_who_is_ahead():
    card = by_question(two_schedules(*ALONE))["Schedule"]
    assert card.state == "open"
    assert card.headline.startswith("open")
    assert "cosine" in card.headline
    assert ONE_SEED in card.sentence
    assert "2 of 2 pairs" in card.sureness


def test_without_a_verdict_no_winner_stands_in_the_headline():
    card = only(study(UNCLEAR))
    assert card.state == "open"
    assert "cosine" not in card.headline
    assert "cosine" in card.sentence


def test_a_tie_asks_for_nothing_more():
    near = 1 + np.array([0.0, 0.004, -0.004])
    card = only(
        study({("linear", "ddim", 10): 0.3 * near, ("cosine", "ddim", 10): 0.3 * near[::-1]})
    )
    assert card.state == "open"
    assert "tie" in card.sureness
    assert "needs" not in card.sureness


@pytest.mark.parametrize(
    ("values", "headline", "state"),
    [
        ({5: 0.3, 10: 0.2, 50: 0.1}, "50 or more", "partly"),
        ({5: 0.3, 10: 0.1, 50: 0.1}, "10 or more", "partly"),
        ({5: 0.3, 10: 0.1, 50: 0.2}, "10 steps", "decided"),
        ({5: 0.1, 10: 0.2, 50: 0.3}, "5 steps", "decided"),
    ],
)
def test_of_steps_the_fewest_are_named_that_more_do_not_improve_on(values, headline, state):
    card = only(by_steps(values))
    assert (card.headline, card.state) == (headline, state)


def test_where_nothing_was_learned_that_is_the_only_answer():
    of = two_schedules(0.3, 0.29, 0.28, 0.27, **noise_of(0.3))
    card = only(of)
    assert card.state == "open"
    assert "nothing learned" in card.headline
    screen = first_screen(of, COMMAND)
    assert screen.rows == []


def test_where_some_have_not_learned_they_are_named_and_the_rest_is_answered():
    cards = by_question(two_schedules(*LEARNS, **noise_of(0.12)))
    assert cards["Schedule"].headline == "cosine"
    learned = cards["Has it learned?"]
    assert (learned.headline, learned.state) == ("partly", "partly")
    assert "linear" in learned.sureness
    assert "cosine" not in learned.sureness


@pytest.mark.parametrize(
    ("of", "why"),
    [
        (Study.of([]), "no cell has a result"),
        (Study.of([replace(one, measurements={}) for one in two_schedules(*LEARNS).results]),
         "no cell has a value"),
    ],
)  # fmt: skip
def test_without_a_number_there_is_no_answer_and_nothing_to_run(of, why):
    card = only(of)
    assert card.state == "open"
    assert why in card.as_line
    screen = first_screen(of, COMMAND)
    assert (screen.rows, screen.next) == ([], [])


def test_a_single_cell_is_its_value_and_no_comparison():
    of = Study.of(results({("cosine", "ddim", 10): [0.1]}))
    card = only(of)
    assert card.headline.startswith("0.1")
    assert "cosine with ddim at 10 steps" in card.sentence
    screen = first_screen(of, COMMAND)
    assert (screen.rows, screen.next) == ([], [])


def test_a_question_some_of_whose_cells_are_missing_is_marked():
    assert not any(one.is_incomplete for one in answers(two_schedules(*LEARNS)))
    cut = Study.of(two_schedules(*LEARNS).results[1:])
    assert all(one.is_incomplete for one in answers(cut))


def test_a_screen_is_marked_until_all_cells_are_there():
    of = two_schedules(*LEARNS)
    assert first_screen(of, COMMAND, expected=12).so_far == ""
    screen = first_screen(of, COMMAND, expected=20)
    assert re.match(r"12 of 20\b", screen.so_far)
    assert screen.as_text().startswith(screen.so_far)


def test_exact_denoisers_beside_the_networks_are_cells_that_are_there():
    networks = two_schedules(*LEARNS).results
    of = Study.of([*networks, exactly(networks[0], 0.1)])
    assert first_screen(of, COMMAND, expected=13).so_far == ""


def exact_alone():
    """The exact denoiser's cells of two schedules, before any network is trained."""
    networks = two_schedules(*LEARNS).results
    return Study.of({one.cell: one for one in (exactly(one, 0.1) for one in networks)}.values())


def test_before_a_network_is_trained_nothing_is_answered_by_the_exact_denoiser():
    screen = first_screen(exact_alone(), COMMAND, expected=16, trainings=6)
    assert "no network is trained yet" in screen.so_far
    assert (screen.answers, screen.rows) == ([], [])
    [rest] = screen.next
    assert rest.command == COMMAND
    # Where no network is asked for, its cells are what the grid is about.
    assert first_screen(exact_alone(), COMMAND, expected=4).answers


def test_of_an_unfinished_grid_the_rest_is_what_to_run_next():
    of = study(UNCLEAR)
    [rest] = next_commands(of, COMMAND, missing=32)
    assert rest.command == COMMAND
    assert re.match(r"32 cells to do: .*schedule", rest.comment)
    assert COMMAND not in commands(of)


def test_a_schedule_that_the_exact_denoiser_alone_has_so_far_is_still_to_be_judged():
    cosine = [one for one in two_schedules(*LEARNS).results if "cosine" in one.cell.title]
    of = Study.of([*cosine, *exact_alone().results])
    [rest] = next_commands(of, COMMAND, missing=6)
    assert "schedule" in rest.decides


def test_pairs_that_are_equal_are_counted_apart():
    same, clear = np.array([0.1, 0.1, 0.1]), np.array([0.3, 0.3002, 0.2998])
    values = {("linear", "ddim", 5): clear, ("linear", "ddpm", 5): clear / 2,
              ("cosine", "ddim", 5): same, ("cosine", "ddpm", 5): same}  # fmt: skip
    card = by_question(study(values))["Sampler"]
    assert "3 of 6 pairs, equal in 3" in card.sureness


# What to take.


def test_for_each_number_of_evaluations_the_best_within_it_is_taken():
    of = by_sampler({"ddim": [0.1, 0.08, 0.06], "ddpm": [0.3, 0.1, 0.02]}, steps=(5, 10, 50))
    found = budgets(of)
    assert [one.limit for one in found] == ["5", "10", "50"]
    assert [one.take.kind for one in found] == ["ddim", "ddim", "ddpm"]


def test_a_rival_differs_in_the_schedule_alone_where_there_are_several():
    [first, *_] = budgets(build_study())
    one, other = first.rival.first, first.rival.second
    assert (one.schedule, other.schedule) == ("cosine", "linear")
    assert (one.sampler, one.steps) == (other.sampler, other.steps)


def test_samplers_with_no_significant_difference_are_named_beside_the_best():
    of = by_sampler({"ddim": [0.1], "heun": [0.1001], "ddpm": [0.3]}, steps=(10,))
    [row] = budgets(of)
    assert (row.take.kind, row.also) == ("ddim", ("heun",))
    assert len(first_screen(of, COMMAND).rows) == 1  # one question is enough for a table


def test_a_time_budget_has_a_row_where_it_asks_for_something_else():
    """heun takes three times as long a step, so that in half a second ddim is best."""
    slow = {"heun": 0.3, "ddim": 0.1}
    of = by_sampler({"ddim": [0.3, 0.2, 0.1], "heun": [0.2, 0.1, 0.05]}, steps=(2, 5, 10),
                    seconds=lambda cell: slow[cell.sampler.name] * cell.steps)  # fmt: skip
    *by_evaluations, by_time = budgets(of)
    assert {one.take.kind for one in by_evaluations} == {"heun"}
    assert by_time.take.kind == "ddim"
    assert by_time.limit.endswith(" s") or by_time.limit.endswith(" ms")


def test_many_numbers_of_evaluations_are_shown_by_some_with_the_fewest_and_the_most():
    steps = (2, 5, 8, 10, 15, 20, 30, 50)
    found = budgets(by_steps({n: 1 / n for n in steps}))
    assert len(found) <= 5
    assert (found[0].limit, found[-1].limit) == ("2", "50")


# What to run next.


def test_a_grid_of_one_seed_names_three():
    of = two_schedules(*ALONE)
    assert f"{COMMAND} 'seeds=[0,1,2]'" in commands(of)
    told = commands(of, f"{COMMAND} seeds=[0] steps=[5,50]")
    assert f"{COMMAND} steps=[5,50] 'seeds=[0,1,2]'" in told
    quoted = commands(of, f"{COMMAND} 'steps=[5, 50]' 'seeds=[ 0 ]' --store 'my store'")
    assert f"{COMMAND} 'steps=[5, 50]' --store 'my store' 'seeds=[0,1,2]'" in quoted
    assert f"{COMMAND} 'seeds=[ 0 ]' --store 'my store' 'steps=[5,50,100]'" in quoted
    other = Study.of(
        [made.result(made.cell(schedule, seed=5), kid=kid)
         for schedule, kid in (("linear", 0.3), ("cosine", 0.1))]
    )  # fmt: skip
    assert commands(other) == [f"{COMMAND} 'seeds=[5,0,1]'"]


def test_what_is_open_is_looked_at_until_decided_within_what_it_needs():
    [told] = commands(study(UNCLEAR))
    limit = re.fullmatch(rf"{COMMAND} --until decided --max-seeds (\d+)", told)
    assert 3 < int(limit[1]) <= 12
    images = study({("cosine", "ddim", 10): [0.1], ("cosine", "ddpm", 10): [0.11]}, error=0.005)
    [told] = commands(images)
    limit = re.fullmatch(rf"{COMMAND} --until decided --max-images (\d+)", told)
    assert made.CELL.images < int(limit[1]) <= 8 * made.CELL.images


def test_more_seeds_cost_what_the_seeds_at_hand_cost_each():
    """Three seeds of two schedules: six trainings of 100 s, six cells of 50 images of 2 s each."""
    free = {"feature_seconds_per_image": 0.0, "seconds_per_image": (2.0,)}
    cells = results(UNCLEAR, more=lambda one: replace(one, cost=replace(one.cost, **free)))
    trainings = tuple(made.trained(one.cell.training, seconds=100.0) for one in cells)
    [told] = next_commands(Study(tuple(cells), trainings), COMMAND)
    seeds = int(told.command.rpartition(" ")[2])
    assert told.seconds == pytest.approx((seeds - 3) * 2 * (100 + 50 * 2))


def test_what_no_look_could_decide_is_not_told_to_be_run():
    far = {("linear", "ddim", 10): [0.30, 0.34, 0.27], ("cosine", "ddim", 10): [0.29, 0.33, 0.27]}
    assert commands(study(far)) == []


def test_a_best_at_the_last_number_of_steps_asks_for_twice_as_many():
    assert commands(by_steps({5: 0.3, 10: 0.2, 50: 0.1})) == [f"{COMMAND} 'steps=[5,10,50,100]'"]
    assert commands(by_steps({5: 0.3, 10: 0.1, 50: 0.2})) == []


def test_networks_that_have_learned_nothing_are_trained_for_longer():
    of = two_schedules(0.3, 0.29, 0.28, 0.27, **noise_of(0.3))
    [told] = commands(of)
    steps = re.fullmatch(rf"{COMMAND} training\.steps=(\d+)", told)
    assert int(steps[1]) > made.TRAINING.training_steps


def test_where_all_is_decided_there_is_nothing_to_run():
    assert commands(study({("linear", "ddim", 10): 0.3, ("cosine", "ddim", 10): 0.1})) == []


def test_the_cheapest_command_comes_first_and_alone_on_a_terminal():
    of = build_study(seeds=(0,), gain=0.0)
    told = next_commands(of, COMMAND)
    assert len(told) == 2
    assert [one.seconds for one in told] == sorted(one.seconds for one in told)
    text = first_screen(of, COMMAND).as_text()
    assert told[0].command in text
    assert told[1].command not in text


def test_verdicts_of_several_looks_are_answered_as_any():
    looks = (Look((0, 1, 2), (0,)),)
    of = Study(tuple(two_schedules(*LEARNS).results), looks=looks)
    assert by_question(of)["Schedule"].headline == "cosine"


# As a page.


def build_study(**axes):
    return studies(build(**axes))[0]


def test_the_first_screen_is_read_in_seconds(written):
    html = (written / "report.html").read_text()
    [screen] = re.findall(r'<section class="first">.*?</section>', html, flags=re.S)
    assert html.index(screen) < html.index("<figure")
    shown = re.sub(r"<(pre|svg)\b.*?</\1>", "", screen, flags=re.S)  # commands and drawings
    words = [word for word in unescape(re.sub(r"<[^>]+>", " ", shown)).split()
             if re.search(r"[^\W\d_]", word)]  # fmt: skip
    assert len(words) <= MOST_WORDS
    assert screen.count('<article class="card') == 3
    assert "<pre" in screen


def test_the_text_beside_the_page_has_its_answers(written, results):
    text = (written / "answers.txt").read_text()
    for one in answers(studies(results)[0]):
        assert one.as_line in text
    assert np.all([len(line) < 200 for line in text.splitlines()])
