"""What may be concluded: which results may be put side by side, how they differ, what they cost."""
