"""A refused client event, and the `error` event that says so."""

from typing import Any

__all__ = ["Refusal", "error_event"]


class Refusal(Exception):  # noqa: N818 - it is an answer, not a failure of ours
    """A client event that changes nothing and is answered with one `error` event."""

    def __init__(
        self,
        code: str | None,
        message: str,
        param: str | None = None,
        *,
        type: str = "invalid_request_error",
        names_event: bool = True,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.type = type
        self.names_event = names_event
        """OpenAI: a few errors come back without the id of the event that caused them."""

    def event(self, client_event_id: str | None) -> dict[str, Any]:
        """Return the `error` event, naming the client event when it had an id."""
        return error_event(
            self.code,
            self.message,
            self.param,
            type=self.type,
            client_event_id=client_event_id if self.names_event else None,
        )


def error_event(
    code: str | None,
    message: str,
    param: str | None = None,
    *,
    type: str = "invalid_request_error",
    client_event_id: str | None = None,
) -> dict[str, Any]:
    """Return an `error` event; the sender adds its `event_id`."""
    return {
        "type": "error",
        "error": {
            "type": type,
            "code": code,
            "message": message,
            "param": param,
            "event_id": client_event_id,
        },
    }
