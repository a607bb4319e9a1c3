"""`python -m backstamp`: the same as `backstamp`."""

from backstamp.cli import main

if __name__ == "__main__":
    main()
