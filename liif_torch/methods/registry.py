"""Methods by the names that configs use; the module `build` beside this one registers them all."""

from liif_core.config.registry import Registry

methods = Registry("method")
make = methods.make
