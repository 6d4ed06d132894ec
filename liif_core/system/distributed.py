"""Which of several processes this is that train one model, as their launcher says it in the environment.

PyTorch's processes are started by torchrun, Jittor's by Open MPI's mpirun. One process alone is rank 0 of 1.
"""

import os
from dataclasses import dataclass

from liif_core.errors import UserError

# the fields of Ranks, in their order
VARIABLES = {
    "torch": ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    "jittor": tuple(f"OMPI_COMM_WORLD_{name}" for name in ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE")),
}
LAUNCHERS = {"torch": "torchrun", "jittor": "mpirun"}


@dataclass(frozen=True)
class Ranks:
    """rank of `world_size` processes in all; `local_rank` of `local_world_size` on this machine."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1


ALONE = Ranks()


def read(framework: str) -> Ranks:
    """What the framework's own launcher says. Raises UserError under the other framework's launcher."""
    found = [os.environ.get(name) for name in VARIABLES[framework]]
    if None not in found:
        return Ranks(*map(int, found))  # type: ignore[arg-type]
    for other, names in VARIABLES.items():
        if other != framework and all(name in os.environ for name in names) and int(os.environ[names[1]]) > 1:
            raise UserError(
                f"{framework} was started by {LAUNCHERS[other]}: several processes of it are started by "
                f"{LAUNCHERS[framework]} (docs/cluster.md)"
            )
    return Ranks()
