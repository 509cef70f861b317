"""Promises in words: what they mean, what they refuse, and the way back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.bound import CLASSES, Promise
from conformance.promises import PromiseError, parse, promise, spelled
from conformance.summation import Summation
from refimpl.enclosure import FORMATS

SUMMATIONS = st.one_of(
    st.builds(Summation),
    st.builds(Summation, st.just("lanes"), st.integers(1, 64)),
    st.builds(Summation, st.sampled_from(["pairwise", "blocked", "online"]), st.integers(1, 64), st.integers(1, 512)),
)
PROMISES = st.builds(
    Promise,
    accuracy=st.sampled_from(CLASSES),
    compute=st.sampled_from(sorted(FORMATS)),
    store=st.none() | st.sampled_from(sorted(FORMATS)),
    summation=SUMMATIONS,
    flush=st.booleans(),
    exp=st.floats(0.5, 4.0),
    log=st.floats(0.5, 4.0),
    gap=st.floats(0.5, 4.0),
)


@pytest.mark.parametrize(
    ("text", "dtype", "meant"),
    [
        ("float32=A", "float32", Promise("A", compute="float32")),
        ("float64=R", "float64", Promise("R", compute="float64")),
        ("bfloat16=A", "bfloat16", Promise("A", compute="float32")),
        ("float16=N,compute=float16", "float16", Promise("N", compute="float16")),
        ("float16=B,store=float16,summation=lanes:8", "float16", Promise("B", "float32", "float16", Summation("lanes", 8))),
        ("float32=S,summation=pairwise:4:128,flush=true", "float32", Promise("S", "float32", None, Summation("pairwise", 4, 128), True)),
        ("float32=A,exp=1,log=0.5,gap=1.5", "float32", Promise("A", "float32", exp=1.0, log=0.5, gap=1.5)),
    ],
)
def test_what_words_mean(text: str, dtype: str, meant: Promise) -> None:
    assert parse(text) == (dtype, meant)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("A", "'A' names no dtype; write it like float32=A"),
        ("int8=A", "is for 'int8'; promise one of float64, float32, bfloat16, float16"),
        ("float32=C", "accuracy 'C' is no class that can be promised"),
        ("float32=A,depth=3", "has 'depth=3'; write FIELD=VALUE with one of the fields compute, store, summation"),
        ("float32=A,flush", "has 'flush'; write FIELD=VALUE"),
        ("float32=A,flush=yes", "flush is 'yes' (write true or false)"),
        ("float32=A,compute=float8", "float8"),
        ("float32=A,exp=9", "exp is 9.0; promise an error between 0.5 and 4"),
        ("float32=A,exp=x", "exp is 'x'"),
        ("float32=A,summation=tree", "'tree' is no order of summation"),
        ("float32=A,summation=lanes:many", "summation is 'lanes:many'"),
        ("float32=A,summation=lanes:1:2:3", "summation is 'lanes:1:2:3' (write KIND:LANES:BLOCK)"),
    ],
)
def test_what_cannot_be_promised_is_named(text: str, sentence: str) -> None:
    with pytest.raises(PromiseError) as caught:
        parse(text)
    assert sentence in str(caught.value)


@given(st.sampled_from(sorted(FORMATS)), PROMISES)
def test_the_way_back(dtype: str, made: Promise) -> None:
    assert parse(spelled(dtype, made)) == (dtype, made)


def test_the_shortest_words() -> None:
    assert [spelled(dtype, promise(dtype)) for dtype in FORMATS] == [f"{dtype}=A" for dtype in FORMATS]
    assert spelled("float16", promise("float16", "N,summation=pairwise:1:128")) == "float16=N,summation=pairwise:1:128"
