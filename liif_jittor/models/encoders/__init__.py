"""From an image to features."""
