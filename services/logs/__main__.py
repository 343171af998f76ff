"""`python -m services.logs`."""

from services.logs.app import run

if __name__ == "__main__":
    run()
