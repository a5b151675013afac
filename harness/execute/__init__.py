"""Where and how work runs: processes, files, the machine, progress on the screen."""
