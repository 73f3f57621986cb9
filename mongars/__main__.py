"""`python -m mongars`: the command line."""

from mongars.cli import main

if __name__ == "__main__":
    main()
