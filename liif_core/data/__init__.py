"""Images on the disk to batches: folders, caches, wrappers, sampling; `sets.make` builds what a config names."""
