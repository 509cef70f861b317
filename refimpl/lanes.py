"""Vectors of 16 numbers as a type of the compiler's: arithmetic on all lanes at once, with the same bits on every machine.

`doubles` holds 16 float64 numbers and `longs` 16 int64 ones. Each operator is one IEEE operation in each lane, so a kernel written with
them is vectorised by construction, for whatever registers the target has, and no lane depends on another.

    doubles    + - * /, fma, magnitude, larger, smaller, where_less, where_equal, differ, lane
    longs      + << >> &
    splat, integers               one number in every lane
    as_longs, as_doubles          the bits of one type as the other, and back
    load, store, number           between an array and the lanes

Arrays hold float64, float32, bfloat16 (as uint16) or float16 (as int16): see `viewed`. A load is exact; a store takes numbers that the
array's format holds exactly, an infinity or a nan excepted for the half formats.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.extending import models, register_model
from numba.extending import intrinsic, lower_builtin, type_callable
from numpy.typing import NDArray

WIDTH = 16

_SHORT, _INT, _LONG = (ir.IntType(bits) for bits in (16, 32, 64))
_FLOAT, _DOUBLE = ir.FloatType(), ir.DoubleType()


class Lanes(types.Type):  # type: ignore[misc]  # numba's types are Any
    """The type of `WIDTH` elements of an LLVM type."""

    def __init__(self, name: str, element: ir.Type) -> None:
        self.vector = ir.VectorType(element, WIDTH)
        super().__init__(name=f"{name}x{WIDTH}")


@register_model(Lanes)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, lanes.vector)


doubles = Lanes("doubles", _DOUBLE)
longs = Lanes("longs", _LONG)


def _register(function: Any, lanes: Lanes, instruction: str) -> None:
    """Let an operator of Python's stand for an instruction on two vectors."""

    @type_callable(function)
    def typed(context: Any) -> Any:
        def result(a: Any, b: Any) -> Any:
            return lanes if a == lanes and b == lanes else None

        return result

    @lower_builtin(function, lanes, lanes)
    def lowered(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments)


for _operator, _instruction in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"), (operator.truediv, "fdiv")):
    _register(_operator, doubles, _instruction)
for _operator, _instruction in ((operator.add, "add"), (operator.lshift, "shl"), (operator.rshift, "ashr"), (operator.and_, "and_")):
    _register(_operator, longs, _instruction)


def _elementwise(result: Any, build: Callable[..., Any], *arguments: Any) -> Any:
    """The signature and the code of an intrinsic that maps vectors to a vector."""
    return result(*arguments), lambda context, builder, signature, values: build(builder, *values)


def _spread(builder: Any, value: Any) -> Any:
    """One value in every lane."""
    vector = ir.VectorType(value.type, WIDTH)
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INT, WIDTH), [0] * WIDTH))


@intrinsic
def splat(typingctx: Any, x: Any) -> Any:
    """A float64 in every lane."""
    return _elementwise(doubles, _spread, types.float64)


@intrinsic
def integers(typingctx: Any, x: Any) -> Any:
    """An int64 in every lane."""
    return _elementwise(longs, _spread, types.int64)


@intrinsic
def as_longs(typingctx: Any, x: Any) -> Any:
    """The bits of float64 numbers."""
    return _elementwise(longs, lambda builder, x: builder.bitcast(x, longs.vector), doubles)


@intrinsic
def as_doubles(typingctx: Any, x: Any) -> Any:
    """The float64 numbers of these bits."""
    return _elementwise(doubles, lambda builder, x: builder.bitcast(x, doubles.vector), longs)


@intrinsic
def fma(typingctx: Any, x: Any, y: Any, z: Any) -> Any:
    """x*y + z with one rounding."""

    def build(builder: Any, *factors: Any) -> Any:
        function = ir.FunctionType(doubles.vector, [doubles.vector] * 3)
        return builder.call(cgutils.get_or_insert_function(builder.module, function, f"llvm.fma.v{WIDTH}f64"), factors)

    return _elementwise(doubles, build, doubles, doubles, doubles)


@intrinsic
def magnitude(typingctx: Any, x: Any) -> Any:
    """|x|."""

    def build(builder: Any, x: Any) -> Any:
        bits = builder.and_(builder.bitcast(x, longs.vector), ir.Constant(longs.vector, [2**63 - 1] * WIDTH))
        return builder.bitcast(bits, doubles.vector)

    return _elementwise(doubles, build, doubles)


@intrinsic
def larger(typingctx: Any, x: Any, y: Any) -> Any:
    """y where x < y, else x: the larger one, and x where it is a nan."""
    return _elementwise(doubles, lambda builder, x, y: builder.select(builder.fcmp_ordered("<", x, y), y, x), doubles, doubles)


@intrinsic
def smaller(typingctx: Any, x: Any, y: Any) -> Any:
    """y where x > y, else x: the smaller one, and x where it is a nan."""
    return _elementwise(doubles, lambda builder, x, y: builder.select(builder.fcmp_ordered(">", x, y), y, x), doubles, doubles)


@intrinsic
def where_less(typingctx: Any, x: Any, y: Any, a: Any, b: Any) -> Any:
    """a where x < y, else b (a nan is less than nothing)."""

    def build(builder: Any, x: Any, y: Any, a: Any, b: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", x, y), a, b)

    return _elementwise(doubles, build, doubles, doubles, doubles, doubles)


@intrinsic
def where_equal(typingctx: Any, x: Any, y: Any, a: Any, b: Any) -> Any:
    """a where x == y, else b."""

    def build(builder: Any, x: Any, y: Any, a: Any, b: Any) -> Any:
        return builder.select(builder.fcmp_ordered("==", x, y), a, b)

    return _elementwise(doubles, build, doubles, doubles, doubles, doubles)


@intrinsic
def differ(typingctx: Any, x: Any, y: Any) -> Any:
    """Whether x and y differ in some lane, or hold a nan."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        lanes = builder.bitcast(builder.fcmp_unordered("!=", *values), ir.IntType(WIDTH))
        return builder.icmp_unsigned("!=", lanes, ir.Constant(lanes.type, 0))

    return types.boolean(doubles, doubles), build


@intrinsic
def lane(typingctx: Any, x: Any, i: Any) -> Any:
    """The number in lane i."""
    return types.float64(doubles, types.intp), lambda context, builder, signature, values: builder.extract_element(
        values[0], builder.trunc(values[1], _INT)
    )


class _Shape:
    """LLVM's types for `WIDTH` lanes, or for one number: the conversions below serve both."""

    def __init__(self, lanes: bool) -> None:
        self.lanes = lanes

    def of(self, element: ir.Type) -> ir.Type:
        return ir.VectorType(element, WIDTH) if self.lanes else element

    def constant(self, element: ir.Type, value: Any) -> Any:
        return ir.Constant(self.of(element), [value] * WIDTH if self.lanes else value)


_ELEMENTS = {types.float64: _DOUBLE, types.float32: _FLOAT, types.uint16: _SHORT, types.int16: _SHORT}


def _place(context: Any, builder: Any, array_type: Any, array: Any, index: Any, shape: _Shape) -> Any:
    """The pointer to element `index` of a contiguous array, for as many elements as the shape has."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), shape.of(_ELEMENTS[array_type.dtype]).as_pointer())


def _align(array_type: Any) -> int:
    return int(array_type.dtype.bitwidth // 8)


def _widened(builder: Any, raw: Any, dtype: Any, shape: _Shape) -> Any:
    """What an array holds, as float64.

    A bfloat16 number is the upper half of a float32 one. The bits of a float16 number, at the place of a float32's mantissa and
    exponent, are the number times 2^-112, subnormals included; where the exponent is all ones, that of the result becomes so too.
    """
    if dtype == types.float64:
        return raw
    if dtype != types.float32:
        bits = builder.zext(raw, shape.of(_INT))
        if dtype == types.uint16:
            bits = builder.shl(bits, shape.constant(_INT, 16))
        else:
            sign = builder.shl(builder.and_(bits, shape.constant(_INT, 0x8000)), shape.constant(_INT, 16))
            rest = builder.and_(bits, shape.constant(_INT, 0x7FFF))
            scaled = builder.bitcast(builder.shl(rest, shape.constant(_INT, 13)), shape.of(_FLOAT))
            scaled = builder.bitcast(builder.fmul(scaled, shape.constant(_FLOAT, 2.0**112)), shape.of(_INT))
            special = builder.icmp_unsigned(">=", rest, shape.constant(_INT, 0x7C00))
            ones = builder.select(special, shape.constant(_INT, 0x7F800000), shape.constant(_INT, 0))
            bits = builder.or_(builder.or_(scaled, ones), sign)
        raw = builder.bitcast(bits, shape.of(_FLOAT))
    return builder.fpext(raw, shape.of(_DOUBLE))


def _narrowed(builder: Any, value: Any, dtype: Any, shape: _Shape) -> Any:
    """The inverse of `_widened` for numbers that the format holds exactly."""
    if dtype == types.float64:
        return value
    value = builder.fptrunc(value, shape.of(_FLOAT))
    if dtype == types.float32:
        return value
    bits = builder.bitcast(value, shape.of(_INT))
    if dtype == types.uint16:
        bits = builder.lshr(bits, shape.constant(_INT, 16))
    else:
        scaled = builder.bitcast(builder.fmul(value, shape.constant(_FLOAT, 2.0**-112)), shape.of(_INT))
        rest = builder.and_(builder.lshr(scaled, shape.constant(_INT, 13)), shape.constant(_INT, 0x7FFF))
        sign = builder.and_(builder.lshr(bits, shape.constant(_INT, 16)), shape.constant(_INT, 0x8000))
        bits = builder.or_(rest, sign)
    return builder.trunc(bits, shape.of(_SHORT))


def _reader(array: Any, result: Any, shape: _Shape) -> Any:
    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        raw = builder.load(_place(context, builder, signature.args[0], values[0], values[1], shape))
        raw.align = _align(signature.args[0])
        return _widened(builder, raw, signature.args[0].dtype, shape)

    return result(array, types.intp), build


@intrinsic
def load(typingctx: Any, array: Any, index: Any) -> Any:
    """Elements index to index + WIDTH of a contiguous array, which must hold that many."""
    return _reader(array, doubles, _Shape(True))


@intrinsic
def number(typingctx: Any, array: Any, index: Any) -> Any:
    """Element `index` of a contiguous array, as float64."""
    return _reader(array, types.float64, _Shape(False))


@intrinsic
def store(typingctx: Any, array: Any, index: Any, x: Any) -> Any:
    """Write the lanes to elements index to index + WIDTH of a contiguous array, which must hold that many."""

    def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        narrow = _narrowed(builder, values[2], signature.args[0].dtype, _Shape(True))
        builder.store(narrow, _place(context, builder, signature.args[0], values[0], values[1], _Shape(True))).align = _align(
            signature.args[0]
        )
        return context.get_dummy_value()

    return types.none(array, types.intp, doubles), build


def viewed(array: NDArray[Any]) -> NDArray[Any]:
    """An array as the kernels take it: the half formats as integers of their bits, bfloat16 as uint16 and float16 as int16."""
    if array.dtype == ml_dtypes.bfloat16:
        return array.view(np.uint16)
    return array.view(np.int16) if array.dtype == np.float16 else array
