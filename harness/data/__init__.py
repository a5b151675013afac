"""The image sets that can be trained on and compared with."""
