"""``python -m promptzoo.cli``: the same as ``promptzoo``."""
from promptzoo.cli import main

if __name__ == "__main__":
    main()
