"""Networks that tell noise from an image: what `diffusion` trains and samples with."""
