"""`persist` and `python -m persist`."""

import sys


def main() -> None:
    """The command line; where what a command needs is not installed, how to install it."""
    try:
        from persist.cli import main

        main()
    except ModuleNotFoundError as missing:
        if str(missing.name).startswith("persist"):
            raise
        extra = "train" if missing.name in ("torch", "torchvision", "sklearn", "tensorboard") else "read"
        sys.exit(f"error: {missing.name} is not installed: pip install -e '.[{extra}]' in the checkout")


if __name__ == "__main__":
    main()
