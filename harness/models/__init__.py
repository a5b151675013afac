"""The networks that predict noise."""
