"""The work itself: train a network, sample images from it, score them."""
