"""LIIF in PyTorch."""


def load_tree():
    """Engine and loader; importing them imports the framework, so the device must be chosen before."""
    from liif_torch.datasets import make_loader
    from liif_torch.engine import Engine

    return Engine, make_loader
