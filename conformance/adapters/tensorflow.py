"""TensorFlow without Keras: tf.nn and tf.math, gradients by tf.GradientTape. Smoothing is in tf.compat.v1.losses only.

Promises. The losses are documented for float64, float32 and float16. Kernels are Eigen's expressions in the dtype of the input,
whose sums keep at least one vector register of partial sums: 128 bits on the smallest machine that TensorFlow ships for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors only; it is read once, by the import

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from conformance.adapter import Adapter, Array, Arrays, Idiom, Unsupported, differentiable
from conformance.bound import Promise, Summation


def entropy(p: Tensor) -> Tensor:
    return -tf.reduce_sum(tf.math.xlogy(p, p), -1)


def entropy_with_logits(logits: Tensor) -> Tensor:
    return tf.nn.softmax_cross_entropy_with_logits(labels=tf.nn.softmax(logits), logits=logits)


def log_softmax(logits: Tensor) -> Tensor:
    return tf.nn.log_softmax(logits)


def cross_entropy(p: Tensor, q: Tensor) -> Tensor:
    return -tf.reduce_sum(tf.math.xlogy(p, q), -1)


def kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    return tf.reduce_sum(tf.math.xlogy(p, p) - tf.math.xlogy(p, q), -1)


def softmax_cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    if weight is not None or ignore_index is not None:
        raise Unsupported(f"tf.nn has no {'class weights' if weight is not None else 'ignore_index'}")
    classes_last = [0, *range(2, logits.ndim), 1]
    logits = tf.transpose(logits, classes_last)
    if target.dtype.is_integer and label_smoothing == 0.0:
        rows = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=target, logits=logits)
    else:
        index = target.dtype.is_integer
        labels = tf.one_hot(target, logits.shape[-1], dtype=logits.dtype) if index else tf.transpose(target, classes_last)
        if label_smoothing == 0.0:
            rows = tf.nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        else:
            rows = tf.compat.v1.losses.softmax_cross_entropy(labels, logits, label_smoothing=label_smoothing, reduction="none")
    return {"none": tf.identity, "sum": tf.reduce_sum, "mean": tf.reduce_mean}[reduction](rows)


OPERATIONS: Mapping[str, Callable[..., Tensor]] = {
    "entropy": entropy,
    "entropy_with_logits": entropy_with_logits,
    "log_softmax": log_softmax,
    "cross_entropy": cross_entropy,
    "kl_divergence": kl_divergence,
    "softmax_cross_entropy": softmax_cross_entropy,
}


def call(
    operation: str, mode: str, inputs: Arrays, parameters: Mapping[str, Any], cotangent: Array | None
) -> tuple[Array, dict[str, Array]]:
    tensors = {name: tf.convert_to_tensor(value) for name, value in inputs.items()}
    varied = {name: tensors[name] for name in differentiable(inputs)} if cotangent is not None else {}
    with tf.GradientTape() as tape:
        tape.watch(varied)
        output = OPERATIONS[operation](**tensors, **parameters)
    gradients = tape.gradient(output, varied, tf.cast(cotangent, output.dtype)) if varied else {}
    return np.asarray(output), {name: np.asarray(gradient) for name, gradient in gradients.items()}


ADAPTER = Adapter(
    name="tensorflow",
    operations=OPERATIONS,
    promises={
        "float64": Promise("A", compute="float64", store=None, summation=Summation("lanes", 2)),
        "float32": Promise("A", compute="float32", store=None, summation=Summation("lanes", 4)),
        "float16": Promise("A", compute="float16", store=None),
    },
    dialect="tensorflow",
    composed=frozenset({"entropy", "entropy_with_logits", "cross_entropy", "kl_divergence"}),
    call=call,
    versions=lambda: {"tensorflow": str(tf.__version__)},
    idiom=Idiom(
        tensor="tf.constant({values}, dtype=tf.{dtype})",
        number="float({})",
        total="float(tf.reduce_sum(tf.cast({}, tf.float64)))",
        backward="with tf.GradientTape() as tape:\n    tape.watch({name})\n    output = {call}\n"
        "{gradient} = tape.gradient(output, {name}, tf.cast(cotangent, output.dtype))",
        index="{}.dtype.is_integer",
    ),
)
