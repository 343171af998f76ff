"""Who owns a call: records in KV `calls`, written by compare-and-set only.

`create` succeeds for one worker; every later write names the revision it was based on, so a worker
that lost the call cannot write over the one that took it.
"""

import contextlib
import logging
from typing import Final

import nats.errors
import nats.js.errors
from nats.js.kv import KeyValue
from pydantic import ValidationError

from shared.messages import CallRecord

log = logging.getLogger(__name__)

#: A last save that fails is tried again this often: without it Twilio would be told to come back.
SAVE_TRIES: Final = 3


class Claims:
    """The records of this worker's calls."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket
        self._revisions: dict[str, int] = {}

    async def create(self, record: CallRecord) -> CallRecord | None:
        """Claim a new call.  None: it is ours.  Otherwise the record of who has it already."""
        try:
            self._revisions[record.call] = await self._bucket.create(record.call, record.encode())
        except nats.js.errors.KeyWrongLastSequenceError:
            if await self._own_write(record):
                return None
            return await self.read(record.call)
        return None

    async def read(self, call: str) -> CallRecord | None:
        """The record of `call`, if there is a readable one."""
        try:
            entry = await self._bucket.get(call)
            return CallRecord.decode(entry.value or b"")
        except (nats.js.errors.KeyNotFoundError, nats.js.errors.KeyDeletedError):
            return None
        except ValidationError:
            log.warning("an unreadable call record", extra={"call": call})
            return None

    async def save(self, record: CallRecord) -> bool:
        """Write the next version.  False: another worker wrote since; this one has lost the call.

        An outage of the store is logged and survived: the call itself does not need it.
        """
        for _ in range(SAVE_TRIES):
            try:
                self._revisions[record.call] = await self._bucket.update(
                    record.call, record.encode(), last=self._revisions.get(record.call, 0)
                )
            except nats.js.errors.KeyWrongLastSequenceError:
                if not await self._own_write(record):
                    return False
                continue  # based on our own last write now
            except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
                log.warning(
                    "a call record was not saved",
                    extra={"call": record.call, "error": repr(error)},
                )
                continue
            return True
        return True

    async def _own_write(self, record: CallRecord) -> bool:
        """A write of ours whose acknowledgement was lost: same owner, so the call is still ours."""
        with contextlib.suppress(nats.errors.Error, nats.js.errors.Error, TimeoutError):
            entry = await self._bucket.get(record.call)
            stored = CallRecord.decode(entry.value or b"")
            mine = (stored.worker, stored.epoch) == (record.worker, record.epoch)
            if mine and stored.state != "ended":
                self._revisions[record.call] = entry.revision or 0
                return True
        return False

    def forget(self, call: str) -> None:
        """The call is over."""
        self._revisions.pop(call, None)
