"""The values that travel: what is asked for, what was found, and what a person chose."""
