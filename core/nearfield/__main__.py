"""``python -m nearfield`` is the command line."""

from nearfield.cli import main

if __name__ == "__main__":
    main()
