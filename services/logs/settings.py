"""The logs service's variables.  A field's description is the remedy shown when it is wrong."""

from pydantic import Field

from shared.settings import ServiceSettings


class LogsSettings(ServiceSettings):
    """See each field."""

    records_max_age_h: float = Field(
        default=2160, gt=0, description="hours that the record of a call is kept, above 0"
    )
    records_max_bytes: int = Field(
        default=512 * 1024 * 1024,
        ge=1024 * 1024,
        description="bytes of all records on disk, at least 1048576: the oldest go first",
    )
    record_limit_bytes: int = Field(
        default=256 * 1024,
        ge=32 * 1024,
        le=512 * 1024,
        description="bytes that one record may have, 32768 to 524288: what is over it is cut",
    )
    record_write_ms: int = Field(
        default=500,
        ge=0,
        le=5000,
        description="milliseconds between two writes of a live call's record, 0 to 5000",
    )
