"""A difference drawn within a line of a table."""

import re
import xml.etree.ElementTree as ET

import pytest

from harness.analysis.statistics import Interval
from harness.report.figures.strips import EDGE, WIDE, strip

NONE = float("nan")


def places(svg):
    """Where the line at zero is, and where the mark: pixels from the left."""
    zero = float(re.search(r"M([\d.]+) 3V", svg)[1])
    return zero, float(re.search(r'cx="([\d.]+)"', svg)[1])


def test_a_lower_value_is_left_of_the_line_and_half_as_far_as_twice_as_much():
    axis = (-0.75, 3.0)
    zero, half = places(strip(Interval(-0.5, -0.6, -0.4, 3), *axis))
    _, twice = places(strip(Interval(1.0, 0.5, 1.5, 3), *axis))
    assert zero == WIDE / 2
    assert zero - half == pytest.approx(twice - zero)


def test_it_says_the_numbers_to_who_cannot_see_it():
    svg = strip(Interval(-0.56, -0.72, -0.41, 3), -0.8, 0.1, colour='"red"')
    assert ET.fromstring(svg)[0].text == "−56 [−72, −41] %"
    assert 'fill="&quot;red&quot;"' in svg


def test_the_mark_is_filled_where_there_is_a_verdict():
    of = (Interval(-0.5, -0.6, -0.4, 3), -0.8, 0.1)
    assert strip(*of, colour="red").count('fill="red"') == 1
    assert 'fill="red"' not in strip(*of, is_sure=False, colour="red")


@pytest.mark.parametrize("change", [
    Interval(-2.0, -3.0, 9.0, 3), Interval(-0.2, NONE, NONE, 1), Interval(NONE, NONE, NONE, 0),
])  # fmt: skip
@pytest.mark.parametrize("axis", [(-0.5, 0.5), (0.0, 0.0), (-5.0, 0.0)])
def test_what_has_no_bounds_or_lies_beyond_the_axis_stays_inside(change, axis):
    numbers = re.findall(r'(?:cx="|M|H)([\d.]+)', strip(change, *axis))
    assert all(EDGE <= float(each) <= WIDE - EDGE for each in numbers)
    assert ("<circle" in strip(change, *axis)) == (change.n > 0)
