"""Data sets and wrappers by the names that configs use; liif_core.data.sets registers them all."""

from liif_core.config.registry import Registry

DATASETS = Registry("data set")
WRAPPERS = Registry("wrapper")
