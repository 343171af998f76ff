"""What the session itself can do for the model: end the call, transfer it, press keys.

Pure: no I/O.
"""

import re
from typing import Any, Final

from shared.messages import AgentSettings, ToolInfo

END_CALL: Final = "end_call"
TRANSFER_CALL: Final = "transfer_call"
SEND_DTMF: Final = "send_dtmf"

#: Twilio: at most 32 digits; w waits half a second, W a whole one.
DIGITS: Final = re.compile(r"[0-9*#wW]{1,32}")


def offered(agent: AgentSettings) -> dict[str, ToolInfo]:
    """The skills this agent has, as tools for the model."""
    found = {}
    if END_CALL in agent.skills:
        found[END_CALL] = ToolInfo(
            name=END_CALL,
            description=(
                "End the phone call. Say goodbye first, in the same reply; "
                "the call ends when the caller has heard it."
            ),
            parameters=_schema({}),
            hold_music=False,
        )
    if TRANSFER_CALL in agent.skills and agent.transfer_to:
        names = sorted(agent.transfer_to)
        found[TRANSFER_CALL] = ToolInfo(
            name=TRANSFER_CALL,
            description=(
                "Connect the caller with somebody else. Tell the caller first, in the same reply."
            ),
            parameters=_schema(
                {"to": {"type": "string", "enum": names, "description": "whom to connect with"}}
            ),
            hold_music=False,
        )
    if SEND_DTMF in agent.skills:
        found[SEND_DTMF] = ToolInfo(
            name=SEND_DTMF,
            description="Press keys on the phone, for example in the menu of another system.",
            parameters=_schema(
                {
                    "digits": {
                        "type": "string",
                        "pattern": f"^{DIGITS.pattern}$",
                        "description": "0-9, *, #; w waits half a second",
                    }
                }
            ),
            hold_music=False,
        )
    return found


def _schema(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
