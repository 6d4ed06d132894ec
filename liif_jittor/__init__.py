"""LIIF in Jittor."""


def load_tree():
    """Engine and loader; importing them imports the framework, so the device must be chosen before."""
    from liif_jittor.datasets import make_loader
    from liif_jittor.engine import Engine

    return Engine, make_loader
