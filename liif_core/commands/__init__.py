"""What people type: arguments in, exit status out. `entry` runs them, `main` is the command `liif`."""
