"""`python -m services.holdmusic`."""

from services.holdmusic.app import main

if __name__ == "__main__":
    main()
