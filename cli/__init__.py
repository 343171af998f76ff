"""The command `switchboard`: run everything here, call it, and find out what is wrong."""
