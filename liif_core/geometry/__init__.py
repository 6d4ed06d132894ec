"""Coordinates, the output grid, corners of cells, tiles: whole numbers and float32, drawn on no image yet."""
