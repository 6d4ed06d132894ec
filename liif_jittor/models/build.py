"""Any model from its spec; importing this registers them all."""

from liif_jittor.models.decoders import liif, lmliif, lmlte, lmmlp, lte, metasr, mlp, sronet, thera  # noqa: F401  (they register)
from liif_jittor.models.denoisers import ddpm_unet, sr3_unet  # noqa: F401
from liif_jittor.models.discriminators import srgan  # noqa: F401
from liif_jittor.models.encoders import convnext, edsr, msrresnet, rcan, rdn, srcnn, srresnet, swinir  # noqa: F401
from liif_jittor.models.extractors import vgg  # noqa: F401
from liif_jittor.models.registry import make, models  # noqa: F401
