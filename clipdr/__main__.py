"""`python -m clipdr`: the command line, as the console script `clipdr`."""

from clipdr.cli.main import main

if __name__ == "__main__":
    main()
