"""Diffusion as tables of numbers, in float64: schedules of noise, samplers, and what is drawn to train."""
