"""Images in memory and in files: 8-bit RGB for data and tests, every other kind for the demo; comparisons."""
