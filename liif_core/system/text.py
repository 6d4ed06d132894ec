"""Durations, tables and names as text."""

from collections.abc import Sequence

# A name that contains another comes before it.
NAMES = {
    "lmliif": "LM-LIIF",
    "lmlte": "LM-LTE",
    "swinir": "SwinIR",
    "sronet": "SRNO",
    "thera": "Thera",
    "metasr": "MetaSR",
    "msrresnet": "MSRResNet",
}
NAMES |= {"srresnet": "SRResNet"} | {name: name.upper() for name in "edsr rdn rcan liif lte srno srcnn srgan".split()}


def title(name: str) -> str:
    """The name of an experiment or a model as people write it: edsr-baseline-liif-c is EDSR-baseline-LIIF-c."""
    for word, written in NAMES.items():
        name = name.replace(word, written)
    return name


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they must be."""
    widths = [max(len(str(row[column])) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, *rows]:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def duration(seconds: float) -> str:
    """Seconds as 12.3s, 4.5m or 6.7h."""
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f}{unit}"
    return f"{seconds:.1f}s"
