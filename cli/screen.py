"""What the commands print: one console, one form of error."""

from typing import Final, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

console: Final = Console(highlight=False, soft_wrap=True)
errors: Final = Console(stderr=True, highlight=False, soft_wrap=True)


def fail(what: str, remedy: str, *, code: int = 1) -> NoReturn:
    """Say what is wrong and what to do, and exit."""
    errors.print(f"[red]{escape(what)}[/]\n{escape(remedy)}")
    raise typer.Exit(code)
