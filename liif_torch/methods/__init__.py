"""What one training step means, by the names that configs use."""

from liif_core.registry import Registry

methods = Registry("method")
make = methods.make

from liif_torch.methods import regression  # noqa: E402, F401  (it registers itself)
