"""The figures of a report: a file for each kind, and the catalogue that names them all."""
