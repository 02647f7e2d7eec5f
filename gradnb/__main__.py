"""``python -m gradnb script.py args…``: the check on a script, without a notebook."""

from .script import main

if __name__ == "__main__":
    main()
