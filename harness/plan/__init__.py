"""What a person asks for: the grid file, the work it stands for, and what that will cost."""
