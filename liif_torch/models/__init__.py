"""Models and encoders by the names that configs use."""

from liif_core.registry import Registry

models = Registry("model")
make = models.make

from liif_torch.models import edsr, liif, metasr, mlp, rcan, rdn  # noqa: E402, F401  (they register themselves)
