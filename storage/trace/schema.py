"""The Arrow schema of a trace: one row per (position, layer, input).

position  u32
layer     u16
input     dictionary<i8 -> string>, its values the header's inputs in their order
selected  list<u32>, rising

There are no nulls and no compressed buffers; metadata `tidemill.trace` holds the header as JSON. A reader accepts any
integer index type and any order of the dictionary, and fields that are declared nullable.
"""

import msgspec
import pyarrow as pa

from tidemill.storage.errors import FormatError
from tidemill.storage.trace.header import HEADER_BYTES_MAX, TraceHeader

METADATA_KEY = b"tidemill.trace"


def trace_schema(header: TraceHeader) -> pa.Schema:
    fields = [
        pa.field("position", pa.uint32(), nullable=False),
        pa.field("layer", pa.uint16(), nullable=False),
        pa.field("input", pa.dictionary(pa.int8(), pa.string()), nullable=False),
        pa.field("selected", pa.list_(pa.field("item", pa.uint32(), nullable=False)), nullable=False),
    ]
    return pa.schema(fields, metadata={METADATA_KEY: msgspec.json.encode(header)})


def parse_schema(schema: pa.Schema, where: str) -> TraceHeader:
    """The header of a file with exactly this schema. Raises FormatError, VersionError."""
    encoded = (schema.metadata or {}).get(METADATA_KEY)
    if encoded is None:
        raise FormatError(f"{where} is no trace: its schema has no metadata {METADATA_KEY.decode()!r}")
    if len(encoded) > HEADER_BYTES_MAX:
        raise FormatError(f"{where}: the trace header has {len(encoded)} bytes, at most {HEADER_BYTES_MAX} are allowed")
    try:
        header = msgspec.json.decode(encoded, type=TraceHeader)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"{where}: the trace header is not valid: {error}; record the trace again") from None
    header.check(where)
    if not _has_columns(schema):
        expected = trace_schema(header).remove_metadata()
        raise FormatError(f"{where}: a trace has the columns\n{expected}\ngot\n{schema.remove_metadata()}")
    return header


def _has_columns(schema: pa.Schema) -> bool:
    if schema.names != ["position", "layer", "input", "selected"]:
        return False
    position, layer, name, selected = schema.types
    return bool(
        position == pa.uint32()
        and layer == pa.uint16()
        and pa.types.is_dictionary(name)
        and name.value_type == pa.string()
        and pa.types.is_list(selected)
        and selected.value_type == pa.uint32()
    )
