"""The factor of a model that has no other, read from its spec, without a framework."""

# Models that upscale by one factor, with the default of their argument `scale`, None without one. A denoiser without
# one makes images of noise alone.
SCALES = {
    "edsr-baseline": 2,
    "edsr": 2,
    "rdn": 2,
    "rcan": 2,
    "swinir": 2,
    "srresnet": 4,
    "msrresnet": 4,
    "srcnn": None,
    "sr3-unet": None,
    "ddpm-unet": None,
}


def factor_of(spec: dict) -> int | None:
    """The one factor of the model of a spec {name, args}; None of a model of any factor, and of one that is unknown."""
    name, args = spec.get("name"), spec.get("args") or {}
    if name == "liif":  # without a perceptron the encoder alone upscales
        return None if args.get("imnet_spec") else factor_of(args.get("encoder_spec") or {})
    if name not in SCALES or args.get("no_upsampling"):
        return None
    return args.get("scale", SCALES[name])
