"""Writes ONNX files of a few nodes, in the protocol buffer encoding of onnx.proto; without the package ``onnx`` and its size."""

FLOAT, INT64 = 1, 7


def model(nodes, inputs, outputs, constants=()):
    """Return the bytes of a model.

    Args:
        nodes: pairs of an operator and ``(inputs, output, attributes)``; attributes are whole numbers by name.
        inputs: name, type and shape of each; a text in a shape is a free dimension.
        outputs: likewise.
        constants: name and whole numbers or floats of each.
    """
    graph = b"".join(
        [
            *(_field(1, _node(*node)) for node in nodes),
            _field(2, "graph"),
            *(_field(5, _tensor(name, values)) for name, values in constants),
            *(_field(11, _value(*each)) for each in inputs),
            *(_field(12, _value(*each)) for each in outputs),
        ]
    )
    return _field(1, 8) + _field(8, _field(1, "") + _field(2, 13)) + _field(7, graph)


def _varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number, value):
    """Encode a field: a whole number as such, text and bytes by their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _node(operator, inputs, output, attributes=None):
    parts = [_field(1, each) for each in inputs]
    parts += [_field(2, output), _field(4, operator)]
    for name, number in (attributes or {}).items():
        parts.append(_field(5, _field(1, name) + _field(3, number) + _field(20, 2)))
    return b"".join(parts)


def _tensor(name, values):
    import numpy as np

    array = np.asarray(values)
    kind, array = (INT64, array.astype("<i8")) if array.dtype.kind == "i" else (FLOAT, array.astype("<f4"))
    dimensions = b"".join(_field(1, size) for size in array.shape)
    return dimensions + _field(2, kind) + _field(8, name) + _field(9, array.tobytes())


def _value(name, kind, shape):
    dimensions = b"".join(
        _field(1, _field(2, size) if isinstance(size, str) else _field(1, size)) for size in shape
    )
    return _field(1, name) + _field(2, _field(1, _field(1, kind) + _field(2, dimensions)))
