"""From images to numbers: features, distances between sets of features, and their uncertainty."""
