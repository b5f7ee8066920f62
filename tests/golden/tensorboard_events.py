"""Writes tests/golden/tensorboard_events.json: events serialized by TensorBoard's own protobuf classes.

Regenerate with: pip install tensorboard==2.21.0 && python tests/golden/tensorboard_events.py
"""

import json
import pathlib
import struct

from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

WALL_TIME = 1700000000.25


def event(**fields):
    return event_pb2.Event(wall_time=WALL_TIME, **fields)


scalars = event(
    step=7,
    summary=summary_pb2.Summary(
        value=[
            summary_pb2.Summary.Value(tag="train/loss", simple_value=0.25),
            summary_pb2.Summary.Value(tag="eval/loss", simple_value=float("inf")),
        ]
    ),
)
text = event(
    step=0,
    summary=summary_pb2.Summary(
        value=[
            summary_pb2.Summary.Value(
                tag="config/text_summary",
                tensor=tensor_pb2.TensorProto(
                    dtype=types_pb2.DT_STRING,
                    tensor_shape=tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=1)]),
                    string_val=["a: 1 ü".encode()],
                ),
                metadata=summary_pb2.SummaryMetadata(plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name="text")),
            )
        ]
    ),
)
session = event(step=101, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))
version = event(step=0, file_version="brain.Event:2")


def framed(payload):
    length = struct.pack("<Q", len(payload))
    return length + struct.pack("<I", masked_crc32c(length)) + payload + struct.pack("<I", masked_crc32c(payload))


golden = {
    "wall_time": WALL_TIME,
    "version": version.SerializeToString().hex(),
    "session": session.SerializeToString().hex(),
    "scalars": scalars.SerializeToString().hex(),
    "text": text.SerializeToString().hex(),
    "framed_scalars": framed(scalars.SerializeToString()).hex(),
}
path = pathlib.Path(__file__).with_suffix(".json")
path.write_text(json.dumps(golden, indent=2) + "\n")
