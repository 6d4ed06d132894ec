"""The command `liif` without an installation: python -m liif_core doctor"""

from liif_core.commands.main import main

if __name__ == "__main__":
    main()
