"""`persist` and `python -m persist`."""

import sys


def main() -> None:
    """The command line; where what it reads with is not installed, how to install it."""
    try:
        from persist.cli import main
    except ModuleNotFoundError as missing:
        sys.exit(
            f"error: {missing.name} is not installed: pip install 'minibatch-persistency[read]'; to train: [train]"
        )
    main()


if __name__ == "__main__":
    main()
