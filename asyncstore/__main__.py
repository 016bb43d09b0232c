"""Lets ``python -m asyncstore`` run the command line."""

from asyncstore.cli import main

if __name__ == "__main__":
    main()
