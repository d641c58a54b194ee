from dataclasses import fields

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vfl.errors import MismatchError, ProtocolError
from vfl.ids import Address, StepKey
from vfl.messages import MESSAGE_TYPES, FreshCiphertexts, HiddenCiphertexts, PublicKeys
from vfl.transport.v1 import data_pb2 as pb
from vfl.transport.wire import data_codec as codec

LIMIT = 1 << 20
ADDRESS = Address(StepKey("job-1", 7, 2), "public_keys", "shop")


@st.composite
def addressed_messages(draw):
    message_type = MESSAGE_TYPES[draw(st.sampled_from(sorted(MESSAGE_TYPES)))]
    arrays = {}
    for spec in fields(message_type):
        dtype, ndim = spec.metadata["dtype"], spec.metadata["ndim"]
        shapes = hnp.array_shapes(min_dims=ndim, max_dims=ndim, min_side=0, max_side=4)
        arrays[spec.name] = draw(hnp.arrays(dtype, shapes))
    key = StepKey(draw(st.from_regex(r"\A[\w.-]{1,128}\Z")), draw(st.integers(0, 1 << 40)), draw(st.integers(0, 99)))
    return Address(
        key, message_type.kind, draw(st.from_regex(r"\A[a-z0-9-]{1,63}\Z")), draw(st.integers(0, 2**32 - 1))
    ), message_type(**arrays)


def header_of(message, address=ADDRESS) -> pb.Header:
    return codec.encode_header(address, message, receiver="bank", max_message_bytes=LIMIT)


def decode(header, chunks):
    address = codec.decode_address(header, receiver="bank")
    decoder = codec.MessageDecoder(header, max_message_bytes=LIMIT)
    for chunk in chunks:
        decoder.feed(chunk)
    return address, decoder.finish()


def keys_message() -> PublicKeys:
    return PublicKeys(*(np.arange(size, dtype=np.uint8) for size in (24, 32, 0, 0, 0, 0, 0, 0)))


@given(addressed_messages(), st.integers(1, 64))
def test_a_message_survives_in_chunks_of_any_size(addressed, chunk_bytes):
    address, message = addressed
    sent = [pb.Chunk.FromString(c.SerializeToString()) for c in codec.encode_payload(message, chunk_bytes)]
    got_address, got = decode(header_of(message, address), sent)
    assert got_address == address
    assert type(got) is type(message)
    for name, array in message.tensors().items():
        np.testing.assert_array_equal(got.tensors()[name], array, strict=True)
        assert got.tensors()[name].flags.writeable
        assert got.tensors()[name].flags.aligned


def test_what_messages_of_one_shape_have_in_common_is_no_kind_of_its_own():
    for base in (FreshCiphertexts, HiddenCiphertexts):
        assert base not in MESSAGE_TYPES.values()
        assert not hasattr(base, "kind")
    assert sum(issubclass(kind, FreshCiphertexts) for kind in MESSAGE_TYPES.values()) == 3
    assert sum(issubclass(kind, HiddenCiphertexts) for kind in MESSAGE_TYPES.values()) == 3


def test_payload_is_little_endian_row_major_whatever_the_layout_in_memory():
    message = MESSAGE_TYPES["forward_share"](np.array([[1, 2], [3, 4]], dtype=np.int64, order="F")[:, ::-1])
    payload = b"".join(c.payload for c in codec.encode_payload(message, 5))
    assert payload == np.array([2, 1, 4, 3], dtype="<i8").tobytes()


def _set(**values):
    def change(header):
        for name, value in values.items():
            setattr(header, name, value)

    return change


def _first_tensor(**values):
    def change(header):
        shape = values.pop("shape", None)
        for name, value in values.items():
            setattr(header.tensors[0], name, value)
        if shape is not None:
            header.tensors[0].shape[:] = shape

    return change


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (_set(protocol_version=2), ProtocolError, "wire version 2"),
        (_set(kind="pickle"), ProtocolError, "unknown kind"),
        (_set(kind="forward_share"), ProtocolError, "wrong number of tensors"),
        (_set(sender="Shop/../x"), ProtocolError, "malformed address"),
        (_set(sender="shop\n"), ProtocolError, "malformed address"),
        (_set(run=""), ProtocolError, "malformed address"),
        (_set(run="a" * 129), ProtocolError, "malformed address"),
        (_set(run="a\nb"), ProtocolError, "malformed address"),
        (_set(attempt=-1), ProtocolError, "malformed address"),
        (_set(receiver="telco"), MismatchError, "another party arrived at bank"),
        (_set(total_bytes=55), ProtocolError, "size that differs from"),
        (_set(total_bytes=57), ProtocolError, "size that differs from"),
        (_first_tensor(name="row"), ProtocolError, "lacks the expected tensor 'he_public_key'"),
        (_first_tensor(dtype="float64"), ProtocolError, "lacks the expected tensor 'he_public_key'"),
        (_first_tensor(dtype="uint64"), ProtocolError, "lacks the expected tensor 'he_public_key'"),
        (_first_tensor(shape=[3, 1]), ProtocolError, "lacks the expected tensor 'he_public_key'"),
        (_first_tensor(shape=[]), ProtocolError, "lacks the expected tensor 'he_public_key'"),
        (_first_tensor(shape=[-3]), ProtocolError, "negative or too large"),
        (_first_tensor(shape=[1 << 62]), ProtocolError, "negative or too large"),
        (lambda header: header.tensors.pop(), ProtocolError, "wrong number of tensors"),
        (lambda header: header.tensors.add(name="x", dtype="uint8", shape=[1]), ProtocolError, "wrong number"),
    ],
)
def test_a_wrong_header_is_refused(change, error, says):
    header = header_of(keys_message())
    change(header)
    with pytest.raises(error, match=says):
        decode(header, codec.encode_payload(keys_message()))


def test_tensors_that_fit_one_by_one_but_not_together_are_refused():
    header = header_of(keys_message())
    sizes = (LIMIT, 1, 0, 0, 0, 0, 0, 0)
    for tensor, size in zip(header.tensors, sizes, strict=True):
        tensor.shape[:] = [size]
    header.total_bytes = LIMIT + 1
    with pytest.raises(ProtocolError, match="larger than the limit"):
        codec.MessageDecoder(header, max_message_bytes=LIMIT)


def test_nothing_is_allocated_for_a_refused_header(monkeypatch):
    header = header_of(keys_message())
    header.tensors[0].shape[:] = [1 << 40]
    header.total_bytes = (1 << 40) + 32
    monkeypatch.setattr(np, "empty", lambda *_: pytest.fail("allocated before the check"))
    with pytest.raises(ProtocolError):
        codec.MessageDecoder(header, max_message_bytes=LIMIT)


@pytest.mark.parametrize("shape", [(1 << 40, 0, 1), (0, 1 << 62, 1 << 62)])
def test_an_empty_tensor_of_absurd_width_is_refused(shape):
    header = header_of(
        MESSAGE_TYPES["masked_activation_product"](np.empty((0, 1, 1), np.uint32), np.empty((0, 1, 1), np.uint32)),
        address_of("masked_activation_product"),
    )
    header.tensors[0].shape[:] = shape
    with pytest.raises(ProtocolError, match="negative or too large"):
        codec.MessageDecoder(header, max_message_bytes=LIMIT)


def address_of(kind: str) -> Address:
    return Address(ADDRESS.key, kind, ADDRESS.sender)


@pytest.mark.parametrize(
    ("chunks", "says"),
    [
        ([b"x" * 55], "before all declared"),
        ([], "before all declared"),
        ([b"x" * 57], "more bytes"),
        ([b"x" * 56, b"x"], "more bytes"),
        ([b"x" * 56, b""], "without payload"),
    ],
)
def test_too_few_or_too_many_bytes_are_refused(chunks, says):
    with pytest.raises(ProtocolError, match=says):
        decode(header_of(keys_message()), [pb.Chunk(payload=c) for c in chunks])


def test_a_second_header_is_refused():
    header = header_of(keys_message())
    with pytest.raises(ProtocolError, match="without payload"):
        decode(header, [pb.Chunk(header=header)])


def test_the_sender_refuses_its_own_oversized_or_misaddressed_message():
    with pytest.raises(ProtocolError, match="limit of 55 bytes"):
        codec.encode_header(ADDRESS, keys_message(), receiver="bank", max_message_bytes=55)
    with pytest.raises(ProtocolError, match="addressed as another kind"):
        header_of(keys_message(), address_of("forward_share"))


headers = st.builds(
    pb.Header,
    protocol_version=st.just(codec.WIRE_VERSION),
    run=st.sampled_from(["job", "", "x" * 200]),
    step=st.integers(-(1 << 63), (1 << 63) - 1),
    attempt=st.integers(-1, 3),
    kind=st.sampled_from([*sorted(MESSAGE_TYPES), "", "x"]),
    sender=st.sampled_from(["shop", "", "Shop"]),
    receiver=st.just("bank"),
    tensors=st.lists(
        st.builds(
            pb.TensorSpec,
            name=st.sampled_from([spec.name for t in MESSAGE_TYPES.values() for spec in fields(t)]),
            dtype=st.sampled_from(["int64", "uint8", "uint32", "object", "float64"]),
            shape=st.lists(st.sampled_from([-1, 0, 1, 2, 3, 1 << 20, 1 << 62]), max_size=5),
        ),
        max_size=3,
    ),
    total_bytes=st.sampled_from([0, 8, 16, 24, 48, 1 << 20, 1 << 63]),
)


@settings(max_examples=300)
@given(headers, st.lists(st.binary(max_size=64), max_size=4))
def test_any_header_and_payload_is_a_message_or_a_protocol_error(header, payloads):
    try:
        _, message = decode(header, [pb.Chunk(payload=p) for p in payloads])
    except ProtocolError:
        return
    assert codec.message_bytes(message) == header.total_bytes == sum(map(len, payloads))


@settings(max_examples=300)
@given(st.data())
def test_a_corrupted_header_is_a_message_or_a_refusal(data):
    wire = bytearray(header_of(keys_message()).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(pb.Header.FromString(bytes(wire)), codec.encode_payload(keys_message()))
    except (ProtocolError, MismatchError, DecodeError):
        return
