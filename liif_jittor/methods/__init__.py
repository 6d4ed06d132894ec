"""What one training step means: `build.make` makes any method."""
