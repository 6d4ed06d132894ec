"""LIIF in Jittor."""
