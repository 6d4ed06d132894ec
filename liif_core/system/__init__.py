"""What the machine has and does: devices, packages, memory, signals, processes, files and where they lie."""
