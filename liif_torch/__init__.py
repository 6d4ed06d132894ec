"""LIIF in PyTorch."""
