"""The bucket `records`: one record a call, written by compare-and-set.

A record's summary travels in a header of its message, so that the list of calls can be kept up to
date without reading records.
"""

import json
import logging
from typing import Final

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js.api import DiscardPolicy, StorageType, StreamConfig
from pydantic import ValidationError

from services.logs.settings import LogsSettings
from shared import subjects
from shared.bus import Bus
from shared.feed import Reader
from shared.messages import CallSummary

log = logging.getLogger(__name__)

STREAM: Final = f"KV_{subjects.RECORDS_BUCKET}"
PREFIX: Final = f"$KV.{subjects.RECORDS_BUCKET}."
SUMMARY: Final = "Switchboard-Summary"
#: Room for a record's headers: its summary, escaped.
HEADERS_LIMIT_BYTES: Final = 32 * 1024
#: JetStream: "wrong last sequence".
WRONG_REVISION: Final = 10071
#: JetStream looks for repeated messages for so long, or for as long as records live.
DUPLICATES_S: Final = 120.0

#: What goes wrong while JetStream is away or full.
FAULTS: Final = (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError)


class ConflictError(Exception):
    """Another instance wrote the record in between."""


class Records:
    """Use `provision` before."""

    def __init__(self, bus: Bus, settings: LogsSettings) -> None:
        self._bus = bus
        self._settings = settings

    async def provision(self) -> None:
        """Make the bucket, or bring its limits up to the settings.

        Not by the helper for buckets: that one refuses what is new when it is full, and here the
        oldest have to go.
        """
        max_age_s = self._settings.records_max_age_h * 3600
        config = StreamConfig(
            name=STREAM,
            description="the record of every call",
            subjects=[f"{PREFIX}>"],
            max_msgs_per_subject=1,
            max_age=max_age_s,
            max_bytes=self._settings.records_max_bytes,
            max_msg_size=self._settings.record_limit_bytes + HEADERS_LIMIT_BYTES,
            discard=DiscardPolicy.OLD,
            storage=StorageType.FILE,
            num_replicas=self._settings.js_replicas,
            duplicate_window=min(DUPLICATES_S, max_age_s),
            allow_direct=True,
            allow_rollup_hdrs=True,
        )
        try:
            await self._bus.js.add_stream(config)
        except nats.js.errors.BadRequestError:
            await self._bus.js.update_stream(config)  # it exists with other limits

    async def read(self, call: str) -> tuple[int, bytes] | None:
        """The record's revision and bytes; None: there is none."""
        try:
            found = await self._bus.js.get_msg(STREAM, subject=f"{PREFIX}{call}", direct=True)
        except nats.js.errors.NotFoundError:
            return None
        return (found.seq or 0, found.data or b"")

    async def write(self, call: str, data: bytes, told: CallSummary, revision: int) -> int:
        """Write over `revision` (0: there is none yet); returns the new one.

        Raises `ConflictError`, or one of `FAULTS`.
        """
        # ASCII without line breaks, as a header must be.
        summary = json.dumps(told.model_dump(mode="json"), ensure_ascii=True)
        try:
            written = await self._bus.js.publish(
                f"{PREFIX}{call}",
                data,
                headers={
                    "Nats-Expected-Last-Subject-Sequence": str(revision),
                    SUMMARY: summary,
                },
            )
        except nats.js.errors.APIError as error:
            if error.err_code == WRONG_REVISION:
                raise ConflictError(call) from error
            raise
        return written.seq

    async def first_revision(self) -> int:
        """Whatever was written before it is gone."""
        return (await self._bus.js.stream_info(STREAM)).state.first_seq

    def summaries(self) -> Reader:
        """The newest message of every record, without its body, then each as it is written."""
        return Reader(self._bus.client, STREAM, f"{PREFIX}>", newest_only=True, headers_only=True)


def summary_of(message: Msg) -> tuple[str, CallSummary | None]:
    """The call that a message of `summaries` is about; None: its record is gone, or not ours."""
    call = message.subject.removeprefix(PREFIX)
    text = (message.headers or {}).get(SUMMARY)
    if text is None:
        return (call, None)
    try:
        return (call, CallSummary.model_validate_json(text))
    except ValidationError:
        return (call, None)
