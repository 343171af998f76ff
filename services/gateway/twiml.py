"""What we tell Twilio to do with a call, as TwiML.

Every answer ends the call by itself: a document that ends in `<Pause>` keeps a caller on a silent
line after the agent is gone.

Pure: no I/O.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

from twilio.twiml.voice_response import (  # type: ignore[import-untyped]
    Connect,
    Dial,
    Reject,
    VoiceResponse,
)

#: Between two tries to find a worker: long enough for a call to end somewhere, short enough that a
#: caller does not hang up.
BUSY_PAUSE_S: Final = 5

#: How long the other party of a transfer may ring: five rings, before most answering machines.
DIAL_TIMEOUT_S: Final = 25
#: Whom a transfer may reach: an E.164 number or a SIP URI.  Nothing else becomes TwiML.
NUMBER: Final = re.compile(r"\+[1-9][0-9]{1,14}")
SIP_URI: Final = re.compile(r"sips?:[^\s@<>\"]{1,64}@[A-Za-z0-9.-]+(:[0-9]{1,5})?(;[^\s<>\"?]*)?")

#: Calls that ended like this ended through our fault, so the caller hears a word.
SORRY_REASONS: Final = frozenset({"model_unavailable", "failed", "worker_lost", "worker_stopped"})


@dataclass(frozen=True, slots=True)
class Answers:
    """The documents, in the words and with the URLs of the settings."""

    origin: str
    """Scheme, host and port as Twilio sees us."""
    busy_answer: Literal["retry", "say", "reject"]
    busy_retries: int
    busy_text: str
    sorry_text: str
    voice: str | None = None
    language: str | None = None

    @property
    def stream_origin(self) -> str:
        """wss for https.  Twilio: a scheme other than `wss` is refused (error 31922)."""
        scheme, rest = self.origin.split("://", 1)
        return f"{'wss' if scheme == 'https' else 'ws'}://{rest}"

    def connect(self, token: str, *, leg: int = 1, note: str = "") -> str:
        """Open the call's socket; `leg` counts the answers of this kind that the call has had.

        `note` comes back in the stream's `start`, and is told to the owner.
        """
        response = VoiceResponse()
        self._connect(response, token, leg, note)
        return str(response)

    def dial(self, to: str) -> str:
        """Connect the caller with somebody else; raises `ValueError` if `to` is nobody.

        Twilio: `action` is requested when the other party hung up or was not reached; with
        `answerOnBridge` the caller hears it ring.
        """
        response = VoiceResponse()
        dial = Dial(
            action=f"{self.origin}/twiml/dial-result",
            method="POST",
            answer_on_bridge=True,
            timeout=DIAL_TIMEOUT_S,
        )
        if NUMBER.fullmatch(to):
            dial.number(to)
        elif SIP_URI.fullmatch(to):
            dial.sip(to)
        else:
            raise ValueError("neither an E.164 number nor a SIP URI")
        response.append(dial)
        return str(response)

    def keys(self, digits: str, token: str) -> str:
        """Press keys, then open a new socket: the one that is open ends with this document."""
        response = VoiceResponse()
        response.play(digits=digits)
        self._connect(response, token)
        return str(response)

    def _connect(self, response: VoiceResponse, token: str, leg: int = 1, note: str = "") -> None:
        # Twilio: `action` is requested when our side closes the socket, so another gateway can put
        # the call back; verbs after it are not reached while it answers.
        after = f"{self.origin}/twiml/after" + (f"?leg={leg}" if leg > 1 else "")
        connect = Connect(action=after, method="POST")
        stream = connect.stream(url=f"{self.stream_origin}/call/{token}")
        if note:
            stream.parameter(name="note", value=note)
        response.append(connect)
        response.hangup()

    def busy(self, attempt: int) -> str:
        """No worker has room; `attempt` says how often this call was told to ask again."""
        response = VoiceResponse()
        if self.busy_answer == "reject":
            # Twilio: as the first verb it refuses without answering, and without charge.
            response.append(Reject(reason="busy"))
        elif self.busy_answer == "say":
            self._say(response, self.busy_text)
            response.hangup()
        elif attempt < self.busy_retries:
            self._say(response, self.busy_text)
            response.pause(length=BUSY_PAUSE_S)
            response.redirect(f"{self.origin}/twiml?attempt={attempt + 1}", method="POST")
        else:
            return self.sorry()
        return str(response)

    def sorry(self) -> str:
        """Something of ours failed."""
        response = VoiceResponse()
        self._say(response, self.sorry_text)
        response.hangup()
        return str(response)

    def hang_up(self) -> str:
        """The call is over, or not ours any more."""
        response = VoiceResponse()
        response.hangup()
        return str(response)

    def _say(self, response: VoiceResponse, text: str) -> None:
        response.say(text, voice=self.voice, language=self.language)
