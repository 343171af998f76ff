"""What the session itself can do for the model: end the call, transfer it, press keys.

Pure: no I/O.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from shared.messages import AgentSettings, ToolInfo

END_CALL: Final = "end_call"
TRANSFER_CALL: Final = "transfer_call"
SEND_DTMF: Final = "send_dtmf"

#: Twilio: at most 32 digits; w waits half a second, W a whole one.
DIGITS: Final = re.compile(r"[0-9*#wW]{1,32}")
#: A number or a SIP URI longer than this fits into no message to the gateway.
DESTINATION_LIMIT_CHARS: Final = 64


def destinations(agent: AgentSettings) -> dict[str, str]:
    """Whom `transfer_call` may reach: name -> number or SIP URI."""
    return {
        name: to for name, to in agent.transfer_to.items() if len(to) <= DESTINATION_LIMIT_CHARS
    }


def offered(agent: AgentSettings) -> dict[str, ToolInfo]:
    """The skills this agent has, as tools for the model."""
    found: dict[str, ToolInfo] = {}
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
    if TRANSFER_CALL in agent.skills and (names := sorted(destinations(agent))):
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


def together(agent: AgentSettings, tools: Mapping[str, ToolInfo]) -> dict[str, ToolInfo]:
    """Everything the model may call: this agent's tools, and its skills.

    A skill wins over a stranger's tool of the same name.
    """
    chosen = {
        name: tool for name, tool in tools.items() if agent.tools is None or name in agent.tools
    }
    return {**chosen, **offered(agent)}


def _schema(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
