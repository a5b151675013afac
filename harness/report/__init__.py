"""From a table of results to sentences, figures and pages. Knows no torch and no YAML."""
