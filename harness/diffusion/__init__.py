"""The method as pure mathematics on tensors: no files, devices, progress bars or seeds."""
