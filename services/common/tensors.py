"""numpy arrays to `Tensor` messages and back, without copying element by element."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saexplain.common.v1 import tensor_pb2
from services.common.errors import InvalidArgument

_DTYPES: dict[tensor_pb2.DataType.ValueType, np.dtype[Any]] = {
    tensor_pb2.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    tensor_pb2.DATA_TYPE_FLOAT16: np.dtype("<f2"),
    tensor_pb2.DATA_TYPE_INT32: np.dtype("<i4"),
    tensor_pb2.DATA_TYPE_INT64: np.dtype("<i8"),
}
_TYPES = {dtype: data_type for data_type, dtype in _DTYPES.items()}


def to_tensor(array: NDArray[Any]) -> tensor_pb2.Tensor:
    """Packs an array of float32, float16, int32 or int64, any shape.

    Raises:
        TypeError: another dtype; convert first, so that no precision is lost silently.
    """
    dtype = array.dtype.newbyteorder("<")
    if dtype not in _TYPES:
        raise TypeError(f"no tensor type for {array.dtype}")
    data = np.ascontiguousarray(array, dtype=dtype).tobytes()
    return tensor_pb2.Tensor(data_type=_TYPES[dtype], shape=array.shape, data=data)


def from_tensor(tensor: tensor_pb2.Tensor, field: str = "tensor") -> NDArray[Any]:
    """Reads a message as a read-only array of its shape.

    Raises:
        InvalidArgument: unknown type, negative size, or data of another length.
    """
    if tensor.data_type not in _DTYPES:
        raise InvalidArgument("unknown data type", f"{field}.data_type")
    dtype = _DTYPES[tensor.data_type]
    shape = tuple(tensor.shape)
    if any(size < 0 for size in shape):
        raise InvalidArgument("sizes must be >= 0", f"{field}.shape")
    expected = math.prod(shape) * dtype.itemsize
    if len(tensor.data) != expected:
        raise InvalidArgument(
            f"{len(tensor.data)} bytes where shape {list(shape)} needs {expected}", f"{field}.data"
        )
    return np.frombuffer(tensor.data, dtype=dtype).reshape(shape)
