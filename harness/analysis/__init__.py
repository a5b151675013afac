"""What may be concluded from results: which may be put side by side, how they differ, what they cost."""
