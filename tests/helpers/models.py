"""The models: what tests loop over, and so do scripts/try_configs.py and benchmarks/compare_upstream.py.

A new encoder or decoder is a row of MODELS. That row is built and counted, held against the other tree, cut into tiles,
exported, converted and compared with LIIF's code.
"""

import copy
from dataclasses import dataclass

import numpy as np

# What makes an encoder narrow, so that it costs nothing; with the fixture `shallow_rdn`, RDN has two blocks of three
# layers as well.
NARROW = {
    "edsr-baseline": {"n_resblocks": 3, "n_feats": 16},
    "edsr": {"n_resblocks": 2, "n_feats": 8},
    "rdn": {"G0": 8, "RDNconfig": "A"},
    "rcan": {"n_resgroups": 2, "n_resblocks": 2, "n_feats": 16, "reduction": 4},
    "swinir": {"depths": [2], "num_heads": [2], "embed_dim": 12, "drop_path_rate": 0.0},
}
NARROW_ONE_FACTOR = {
    "srcnn": {},
    "srresnet": {"n_resblocks": 2, "n_feats": 8},
    "msrresnet": {"n_resblocks": 2, "n_feats": 8},
}
NARROW_DECODER = {
    "lte": {"hidden_dim": 24},
    "sronet": {"width": 24, "blocks": 4},
    "thera": {"hidden_dim": 24},
    "lmlte": {"hidden_dim": 24},
}
NARROW_BEHIND = {"convnext": {"blocks": [[16, 1], [24, 1]]}, "swinir": NARROW["swinir"]}  # another encoder
SHALLOW_RDN = (2, 3, 4)  # blocks, layers, growth
FREE = {"no_upsampling": True}  # as many feature pixels as image pixels: for decoders of any factor
PRO = FREE | {"depths": [7, 6], "num_heads": [6, 6], "embed_dim": 180, "gelu": "tanh"}  # the SwinIR of Thera Pro
HIDDEN, NARROW_HIDDEN = [256] * 4, [32, 32]
REGRESSION = {"name": "regression", "args": {}}
ADAM = {"name": "adam", "args": {"lr": 1e-3}}


@dataclass(frozen=True)
class Model:
    """A model in full, and as narrow as tests need it."""

    full: dict
    parameters: int | None  # of `full`: as LIIF's code counts them without its unused mean shifts, where it was asked
    receptive_radius: int | None  # of the narrow encoder; None: it sees the whole image
    exportable: bool = True

    @property
    def spec(self) -> dict:
        """The narrow one."""
        spec = copy.deepcopy(self.full)
        encoder = spec["args"].get("encoder_spec", spec)
        while "encoder_spec" in encoder["args"]:
            encoder["args"] |= NARROW_BEHIND[encoder["name"]]
            encoder = encoder["args"]["encoder_spec"]
        encoder["args"] |= (NARROW | NARROW_ONE_FACTOR)[encoder["name"]]
        for key in {"imnet_spec", "hypernet_spec"} & set(spec["args"]):
            if "hidden_list" in (spec["args"][key] or {"args": {}})["args"]:
                spec["args"][key]["args"]["hidden_list"] = NARROW_HIDDEN
        spec["args"] |= NARROW_DECODER.get(spec["name"], {})
        return spec


def liif(encoder: str, **args) -> dict:
    """A spec of LIIF over an encoder of full width; with a factor, of the encoder alone: its features are the image."""
    imnet = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": HIDDEN}}
    decoder = {"imnet_spec": None if "scale" in args else imnet}
    return {"name": "liif", "args": {"encoder_spec": {"name": encoder, "args": args}} | decoder}


def metasr(encoder: str) -> dict:
    return {"name": "metasr", "args": {"encoder_spec": {"name": encoder, "args": dict(FREE)}}}


def lte(encoder: str) -> dict:
    imnet = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [256] * 3}}
    return {
        "name": "lte",
        "args": {"encoder_spec": {"name": encoder, "args": dict(FREE)}, "imnet_spec": imnet, "hidden_dim": 256},
    }


def srno(encoder: str) -> dict:
    spec = {"name": encoder, "args": dict(FREE)}
    return {"name": "sronet", "args": {"encoder_spec": spec, "width": 256, "blocks": 16}}


def lmliif(encoder: str) -> dict:
    imnet = {"name": "lmmlp", "args": {"out_dim": 3, "hidden_dim": 16, "hidden_depth": 6}}
    hypernet = {"name": "mlp", "args": {"out_dim": 208, "hidden_list": [208]}}
    specs = {"encoder_spec": {"name": encoder, "args": dict(FREE)}, "imnet_spec": imnet, "hypernet_spec": hypernet}
    return {"name": "lmliif", "args": specs | {"mod_input": True}}


def lmlte(encoder: str) -> dict:
    imnet = {"name": "lmmlp", "args": {"out_dim": 3, "hidden_dim": 16, "hidden_depth": 8}}
    hypernet = {"name": "mlp", "args": {"out_dim": 288, "hidden_list": [288]}}
    specs = {"encoder_spec": {"name": encoder, "args": dict(FREE)}, "imnet_spec": imnet, "hypernet_spec": hypernet}
    return {"name": "lmlte", "args": specs | {"hidden_dim": 128}}


def thera(encoder: str, hidden_dim: int, behind: str | None = None, **args) -> dict:
    """behind: what refines the encoder's features, with these arguments."""
    spec: dict = {"name": encoder, "args": dict(FREE)}
    spec = {"name": behind, "args": args | {"encoder_spec": spec}} if behind else spec
    return {"name": "thera", "args": {"encoder_spec": spec, "hidden_dim": hidden_dim}}


# SwinIR: 9 * 3 * 180 + 180; a block has 720 of norms, 225 * 6 of offsets, 180 * 540 + 540 and 180 * 180 + 180 of
# attention, 180 * 360 + 360 and 360 * 180 + 180, together 262,530, and there are 36; behind each of 6 groups and behind
# them all 9 * 180 * 180 + 180; twice 360 of norms; 9 * 180 * 64 + 64. This is 11,603,044. LTE adds 493,827, and Thera
# Pro to EDSR-baseline 9 * 64 * 180 + 180, 13 blocks, two groups, the rest as SwinIR, and 2048 * 65 + 2 * 512 + 1.
MODELS = {
    "edsr-baseline-liif": Model(liif("edsr-baseline", **FREE), 1_567_299, 8),
    "edsr-liif": Model(liif("edsr", **FREE), None, 6),
    "rdn-liif": Model(liif("rdn", **FREE), 22_320_835, 9),
    "rcan-liif": Model(liif("rcan", **FREE), None, None),
    "edsr-baseline-metasr": Model(metasr("edsr-baseline"), 1_665_536, 8),
    "edsr-baseline-lte": Model(lte("edsr-baseline"), 1_714_243, 8, exportable=False),
    "edsr-baseline-srno": Model(srno("edsr-baseline"), 2_015_299, 8, exportable=False),
    "edsr-baseline-lmliif": Model(lmliif("edsr-baseline"), 1_386_067, 8, exportable=False),
    "edsr-baseline-lmlte": Model(lmlte("edsr-baseline"), 1_490_883, 8, exportable=False),
    "edsr-baseline-thera-air": Model(thera("edsr-baseline", 32), 1_228_801, 8, exportable=False),
    "edsr-baseline-thera-plus": Model(thera("edsr-baseline", 512, "convnext"), 2_633_569, 10, exportable=False),
    "edsr-baseline-thera-pro": Model(
        thera("edsr-baseline", 512, "swinir", **PRO),
        5_851_115,
        23,
        exportable=False,
    ),
    "swinir-lte": Model(lte("swinir"), 12_096_871, 15, exportable=False),
    "edsr-baseline-x2": Model(liif("edsr-baseline", scale=2), 1_369_859, 10),
    "rdn-x3": Model(liif("rdn", scale=3), None, 11),
}
# Models that are their own encoder, for crops. SRCNN 9-1-5: 64 * 81 + 64, 32 * 64 + 32, 25 * 32 + 1; 9-5-5 has
# 24 * 64 * 32 more. SRResNet x4: 64 * 243 + 64 and a slope; 16 blocks of 2 * (9 * 64 * 64 + 128) and a slope, half of
# such a block; twice 256 * 576 + 256 and a slope; 3 * 5184 + 3. MSRResNet: BasicSR's own count.
ONE_FACTOR = {
    "srcnn-x4": Model({"name": "srcnn", "args": {"scale": 4, "kernel": 1}}, 8_129, 4),
    "srcnn-x3": Model({"name": "srcnn", "args": {"scale": 3, "kernel": 5}}, 57_281, 5),
    "srcnn-rgb-x2": Model({"name": "srcnn", "args": {"scale": 2, "kernel": 3, "channels": "rgb"}}, None, 6),
    "srresnet-x4": Model({"name": "srresnet", "args": {"scale": 4}}, 1_547_350, 12),
    "srresnet-x3": Model({"name": "srresnet", "args": {"scale": 3}}, None, 12),
    "msrresnet-x4": Model({"name": "msrresnet", "args": {"scale": 4}}, 1_517_571, 7),
    "msrresnet-x2": Model({"name": "msrresnet", "args": {"scale": 2}}, 1_369_859, 7),
}
# Networks that give no images. The discriminator: 27 * 64 + 64; 9 * 64 * (64 + 128) + 9 * 128 * (128 + 256) +
# 9 * 256 * (256 + 512) + 9 * 512 * 512; 2 * (64 + 2 * (128 + 256 + 512)); 512 * 36 * 1024 + 1024; 1025. VGG-19 by
# torchvision, without what comes after its last convolution.
OTHERS = {"srgan-discriminator": 23_563_649, "vgg19-features": 20_024_384}
DDPM = {"channel_mults": [1, 1, 2, 2, 4, 4]}
# The denoisers of diffusion, by the names of SR3-PyTorch's configs, as its own code counts them.
DENOISERS = {
    "sr_sr3_16_128": Model({"name": "sr3-unet", "args": {"scale": 8}}, 97_807_491, None),
    "sr_sr3_64_512": Model(
        {
            "name": "sr3-unet",
            "args": {"scale": 8, "channel_mults": [1, 2, 4, 8, 16], "attn_res": [], "res_blocks": 1}
            | {"norm_groups": 16, "dropout": 0, "image_size": 512},
        },
        155_334_339,
        None,
    ),
    "sample_sr3_128": Model({"name": "sr3-unet", "args": {}}, 97_805_763, None),
    "sr_ddpm_16_128": Model({"name": "ddpm-unet", "args": {"scale": 8, **DDPM}}, 26_451_587, None),
    "sample_ddpm_128": Model({"name": "ddpm-unet", "args": DDPM}, 26_449_859, None),
}
# Three levels, of which the second has attention; images of 16 pixels.
NARROW_DENOISER = {"inner_channel": 8, "channel_mults": [1, 2, 2], "attn_res": [8], "res_blocks": 1}
NARROW_DENOISER |= {"norm_groups": 4, "dropout": 0.0, "image_size": 16, "scale": 4}
SMALL = MODELS["edsr-baseline-liif"].spec
EDSR_X8 = liif("edsr-baseline", scale=8), 1_665_283  # three upsamplers, whose number grows with the factor


def spec_with(**args) -> dict:
    """SMALL with other arguments."""
    spec = copy.deepcopy(SMALL)
    spec["args"] |= args
    return spec


def narrow_encoder(name: str, **args) -> dict:
    """An encoder's spec, narrow, with or without a factor."""
    return {"name": name, "args": NARROW[name] | (args if "scale" in args else FREE | args)}


def denoiser(name: str, **args) -> dict:
    """A denoiser's spec, narrow."""
    return {"name": name, "args": NARROW_DENOISER | args}


def names_in(spec: object) -> set[str]:
    """All models that a spec is built from."""
    if not isinstance(spec, dict):
        return set()
    found = {spec["name"]} if isinstance(spec.get("name"), str) else set()
    return found.union(*(names_in(value) for value in spec.values()))


def crops(seed: int, scale: int) -> dict[str, np.ndarray]:
    """Three pairs of crops to train a model of one factor on."""
    rng = np.random.default_rng(seed)
    sizes = {"inp": (3, 3, 9, 11), "gt": (3, 3, 9 * scale, 11 * scale)}
    return {key: rng.uniform(0, 1, size).astype(np.float32) for key, size in sizes.items()}


def batch(seed: int) -> dict[str, np.ndarray]:
    """Three samples to train on, of chance, as they come from data_norm."""
    rng = np.random.default_rng(seed)
    return {
        "inp": rng.uniform(-1, 1, (3, 3, 11, 17)).astype(np.float32),
        "coord": rng.uniform(-1, 1, (3, 64, 2)).astype(np.float32),
        "cell": rng.uniform(0.02, 0.2, (3, 2)).astype(np.float32),
        "gt": rng.uniform(-1, 1, (3, 64, 3)).astype(np.float32),
    }
