"""YAML to checked configs: `load` finds and merges files, `schema` knows the keys."""
