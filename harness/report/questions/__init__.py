"""The questions that a report answers: one function each, from the tidy frame to a finding."""
