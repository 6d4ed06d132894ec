"""Checkpoint files, ours and others': `formats.load` reads any of them, `native` writes ours."""
