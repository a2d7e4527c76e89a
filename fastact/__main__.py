"""``python -m fastact``: the command line."""

from fastact.cli import app

if __name__ == "__main__":
    app()
