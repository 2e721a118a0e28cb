"""Generated calls of ActivationService, valid and broken, and what a server answers to them.

Requests are drawn from the contract's descriptors, so that a method or field that is added is
covered without a change here; pools of telling values stand in for fields by name.
"""

from __future__ import annotations

import asyncio
import enum
import math
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from saexplain.activation.v1 import activation_pb2 as pb
from saexplain.activation.v1.activation_pb2_grpc import ActivationServiceStub
from services.common.rpc_status import from_rpc_error

SERVICE = pb.DESCRIPTOR.services_by_name["ActivationService"]
DEFECTS = frozenset({"INTERNAL", "UNKNOWN", "DATA_LOSS"})
CALL_SECONDS = 120.0
SAES = ("tiny-topk", "tiny-relu", "tiny-jumprelu")


class Manner(enum.Enum):
    """What the caller does besides asking."""

    PLAIN = enum.auto()
    CANCELLED = enum.auto()
    LATE = enum.auto()
    """With a deadline that is too close."""
    RESET = enum.auto()
    """Gone after the first message of a stream, or with its connection."""
    BROKEN_BYTES = enum.auto()


@dataclass(frozen=True)
class Shot:
    """One call."""

    method: str
    data: bytes
    manner: Manner
    seconds: float
    """Until it is cancelled, or its deadline."""


@dataclass
class Tally:
    """What came back."""

    codes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    defects: list[tuple[Shot, str]] = field(default_factory=list)
    untyped: list[tuple[Shot, str]] = field(default_factory=list)
    """Refusals from our code without a reason."""


def shots() -> st.SearchStrategy[Shot]:
    """Any call."""
    return st.one_of([_shots_of(method) for method in SERVICE.methods])


def _shots_of(method: Any) -> st.SearchStrategy[Shot]:
    manners = [Manner.PLAIN] * 6 + list(Manner)
    return st.builds(
        _shot,
        st.just(method.name),
        _messages(method.input_type),
        st.sampled_from(manners),
        st.floats(0.0001, 0.02),
        st.binary(max_size=12),
        st.floats(0, 1),
    )


def _shot(
    method: str, message: Message, manner: Manner, seconds: float, junk: bytes, place: float
) -> Shot:
    data = message.SerializeToString()
    if manner is Manner.BROKEN_BYTES:
        cut = math.floor(place * len(data))
        data = data[:cut] + junk + data[cut + len(junk) // 2 :]
    return Shot(method, data, manner, seconds)


def _messages(descriptor: Descriptor, depth: int = 0) -> st.SearchStrategy[Message]:
    """Messages that are right in all fields, or in all but one, or where anything may be wrong."""
    names = [one.name for one in descriptor.fields if depth < 4 or one.message_type is None]
    spoilt = st.sampled_from([frozenset(), frozenset(), frozenset(names)] + [{n} for n in names])
    return spoilt.flatmap(lambda wrong: _message_with(descriptor, names, wrong, depth))


def _message_with(
    descriptor: Descriptor, names: Sequence[str], wrong: AbstractSet[str], depth: int
) -> st.SearchStrategy[Message]:
    def value(name: str) -> st.SearchStrategy[Any]:
        one = descriptor.fields_by_name[name]
        if name in wrong:
            item = _any(one, depth)
            if one.message_type is None and name in _WRONG:
                item = st.one_of(item, st.sampled_from(_WRONG[name]))
            return st.one_of(st.none(), _repeated(one, item, 40))
        return _right(one, depth)

    choices = [st.sampled_from([one.name for one in choice.fields]) for choice in descriptor.oneofs]
    chosen = st.fixed_dictionaries({name: value(name) for name in names})
    return st.tuples(chosen, *choices).map(
        lambda drawn: _message(descriptor, drawn[0], frozenset(drawn[1:]) | wrong)
    )


def _message(
    descriptor: Descriptor, values: dict[str, Any], set_of_oneofs: AbstractSet[str]
) -> Message:
    message = GetMessageClass(descriptor)()
    for name, value in values.items():
        here = descriptor.fields_by_name[name]
        if value is None or (here.containing_oneof is not None and name not in set_of_oneofs):
            continue
        if here.is_repeated:
            getattr(message, name).extend(value)
        elif here.message_type is not None:
            getattr(message, name).CopyFrom(value)
        else:
            setattr(message, name, value)
    return message


def _right(one: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    kind = one.containing_type.name
    pool = None if one.message_type else _RIGHT.get(f"{kind}.{one.name}", _RIGHT.get(one.name))
    if pool is not None:
        item = pool
    elif one.message_type is not None:
        item = _messages(one.message_type, depth + 1)
    elif one.enum_type is not None:
        item = st.sampled_from([value.number for value in one.enum_type.values if value.number])
    elif one.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        item = st.just("")
    elif one.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        item = st.floats(0, 4, width=32)
    else:
        item = st.integers(0, 16) if one.cpp_type != FieldDescriptor.CPPTYPE_BOOL else st.booleans()
    return _repeated(one, item, 6, least=1)


def _repeated(
    one: FieldDescriptor, item: st.SearchStrategy[Any], most: int, least: int = 0
) -> st.SearchStrategy[Any]:
    if not one.is_repeated:
        return item
    unique = least > 0 and one.message_type is None
    return st.lists(item, min_size=least, max_size=most, unique=unique)


def _any(one: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if one.message_type is not None:
        return _messages(one.message_type, depth + 1)
    if one.enum_type is not None:
        return st.sampled_from([*(value.number for value in one.enum_type.values), 77, -1])
    kind = FieldDescriptor
    plain: dict[int, st.SearchStrategy[Any]] = {
        kind.CPPTYPE_STRING: _STRINGS,
        kind.CPPTYPE_BOOL: st.booleans(),
        kind.CPPTYPE_INT32: _small_or_any(2**31),
        kind.CPPTYPE_INT64: _small_or_any(2**63),
        kind.CPPTYPE_FLOAT: st.floats(width=32),
        kind.CPPTYPE_DOUBLE: st.floats(),
    }
    return plain[one.cpp_type]


def _small_or_any(bound: int) -> st.SearchStrategy[int]:
    return st.one_of(st.integers(-2, 500), st.integers(-bound, bound - 1))


_STRINGS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["", " ", "\x00", "../..", "%s%n", "\ud7ff", "a" * 70_000, "🦉" * 200]),
)
_WRONG: dict[str, list[Any]] = {
    "sae": ["saes/none", "saes/", "tiny-topk", "saes/TINY", "saes/tiny-topk/features/1"],
    "feature": ["saes/tiny-relu/features/96", "saes/none/features/1", "saes/x/features/x"],
    "name": ["saes/tiny-relu/features/-1", "saes/none", "saes/none/features/1"],
    "index": ["projects/default/indexes/0123456789abcdef", "indexes/1", "projects//"],
    "text": ["", "?!" * 3_000, "a" * 70_000, " " * 900, "\x00\x01"],
    "ids": [-1, 400, 2**31 - 1],
    "feature_indices": [-1, 96, 5, 2**31 - 1],
}
"""Values that come close to right ones, by field."""
_WORDS = st.lists(
    st.sampled_from(["the", "old", "dog", "sleeps", "because", "river", ",", "<|bos|>", "🦉"]),
    min_size=1,
    max_size=60,
).map(" ".join)
_SAE_NAMES = st.sampled_from([f"saes/{sae}" for sae in SAES])
_FEATURE_NAMES = st.sampled_from([f"saes/{sae}/features/{n}" for sae in SAES for n in (0, 5, 95)])
_RIGHT: dict[str, st.SearchStrategy[Any]] = {
    "sae": _SAE_NAMES,
    "feature": _FEATURE_NAMES,
    "name": _FEATURE_NAMES,
    "GetSaeRequest.name": _SAE_NAMES,
    "text": _WORDS,
    "ids": st.integers(2, 399),
    "token_ids": st.integers(2, 399),
    "feature_indices": st.integers(0, 95),
    "count": st.integers(1, 12),
    "top_k": st.integers(1, 12),
}


async def fire(stub_channel: grpc.aio.Channel, volley: Sequence[Shot], tally: Tally) -> None:
    """All shots at once; counts what came back."""
    await asyncio.gather(*(_count(stub_channel, shot, tally) for shot in volley))


async def _count(channel: grpc.aio.Channel, shot: Shot, tally: Tally) -> None:
    try:
        async with asyncio.timeout(CALL_SECONDS):
            code = await _fire_one(channel, shot)
    except grpc.aio.AioRpcError as error:
        code = error.code().name
        _judge(shot, error, tally)
    except asyncio.CancelledError:
        code = "CANCELLED"  # by ourselves
    except TimeoutError:
        code = "NEVER ANSWERED"
        tally.defects.append((shot, code))
    tally.codes[code] += 1


def _judge(shot: Shot, error: grpc.aio.AioRpcError, tally: Tally) -> None:
    code, found = error.code().name, from_rpc_error(error)
    tally.reasons[found.reason] += 1
    ours = shot.manner in (Manner.PLAIN, Manner.BROKEN_BYTES)
    if code in DEFECTS:
        tally.defects.append((shot, f"{code}: {error.details()}"))
    elif ours and found.reason == "UNSPECIFIED":
        tally.untyped.append((shot, f"{code}: {error.details()}"))


async def _fire_one(channel: grpc.aio.Channel, shot: Shot) -> str:
    streams = SERVICE.methods_by_name[shot.method].server_streaming
    path = f"/{SERVICE.full_name}/{shot.method}"
    open_call = channel.unary_stream(path) if streams else channel.unary_unary(path)
    late = shot.manner is Manner.LATE
    call = open_call(shot.data, timeout=shot.seconds if late else CALL_SECONDS)
    if shot.manner is Manner.CANCELLED:
        asyncio.get_running_loop().call_later(shot.seconds, call.cancel)
    if not streams:
        if shot.manner is Manner.RESET:
            call.cancel()
        await call
        return "OK"
    async for _page in call:
        if shot.manner is Manner.RESET:
            call.cancel()
            return "CANCELLED"
    return "OK"


async def canary(channel: grpc.aio.Channel) -> list[bytes]:
    """The values of one good request: what others send must never change them."""
    request = pb.EncodeRequest(
        sae="saes/tiny-relu",
        texts=[pb.TextInput(text="the old dog sleeps"), pb.TextInput(text="a small bird")],
        feature_indices=[4, 90, 17],
    )
    pages = ActivationServiceStub(channel).Encode(request, timeout=CALL_SECONDS)
    return [text.activations.data async for page in pages for text in page.texts]
