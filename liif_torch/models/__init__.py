"""Networks: `build.make` makes any of them; encoders and decoders in folders of their own."""
