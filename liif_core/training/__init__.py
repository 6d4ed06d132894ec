"""A training run: its loop, its folder, its log, the learning rate and the initial weights."""
