"""Any method from its spec; importing this registers them all."""

from liif_torch.methods import adversarial, diffusion, regression  # noqa: F401  (they register themselves)
from liif_torch.methods.registry import make, methods  # noqa: F401
