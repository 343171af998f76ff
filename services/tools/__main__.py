"""`python -m services.tools`."""

from services.tools.app import run

if __name__ == "__main__":
    run()
