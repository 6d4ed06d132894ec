"""Any method from its spec; importing this registers them all."""

from liif_jittor.methods import regression  # noqa: F401  (it registers itself)
from liif_jittor.methods.registry import make, methods  # noqa: F401
