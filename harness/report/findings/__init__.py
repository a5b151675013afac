"""The answers of a report: a file for each group of questions, a function for each question, from
a study to a finding. `catalogue` names them all."""
