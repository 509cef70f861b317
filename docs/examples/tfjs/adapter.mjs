// TensorFlow.js as a backend for lossref: its own losses and its own gradients on its "cpu" backend, by lossref-protocol/1.
//
//     npm ci
//     lossref run 'exec:node docs/examples/tfjs/adapter.mjs' --expect docs/examples/tfjs/expected.toml

import {readFileSync} from 'node:fs';
import {createInterface} from 'node:readline';

console.log = console.info = console.warn = console.error; // the standard output is for messages alone
const tf = await import('@tensorflow/tfjs');
await tf.setBackend('cpu');

class Unsupported extends Error {}

// ---- tensors: numbers as float32, indices as BigInt (TensorFlow.js has no int64) ----

function read({dtype, shape, data, file}) {
  const bytes = file === undefined ? Buffer.from(data, 'hex') : readFileSync(file);
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  if (dtype === 'int64') return {shape, indices: new BigInt64Array(buffer)};
  if (dtype !== 'float32') throw new Unsupported(`TensorFlow.js has no ${dtype}`);
  return tf.tensor(new Float32Array(buffer), shape, 'float32');
}

function written(tensor) {
  const values = tensor.dataSync();
  return {dtype: tensor.dtype, shape: tensor.shape, data: Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString('hex')};
}

// ---- operations: each gives a function of the one input that is differentiated ----

// (N, V, d1, ...) as rows (N*d1*..., V), the only shape that tf.losses.softmaxCrossEntropy documents.
function asRows(x) {
  const [N, V, ...rest] = x.shape;
  const axes = [0, ...rest.map((_, i) => i + 2), 1];
  return x.transpose(axes).reshape([N * rest.reduce((a, b) => a * b, 1), V]);
}

function crossEntropy({logits, target, weight}, {ignore_index, label_smoothing, reduction}) {
  const [N, V, ...rest] = logits.shape;
  const reduced = {none: tf.Reduction.NONE, sum: tf.Reduction.SUM, mean: tf.Reduction.MEAN}[reduction];
  let labels, rowWeights;
  if (target.indices === undefined) {
    if (weight !== undefined || ignore_index !== null) throw new Unsupported('no class weights or ignore_index with probability targets');
    labels = asRows(target);
  } else {
    if (weight !== undefined && label_smoothing > 0) throw new Unsupported('class weights with label smoothing are not weights of rows');
    if (target.indices.some((y) => BigInt.asIntN(32, y) !== y)) throw new Unsupported('indices are int32');
    const indices = tf.tensor1d(Int32Array.from(target.indices, Number), 'int32');
    labels = tf.oneHot(indices, V);
    const kept = tf.tensor1d(Float32Array.from(target.indices, (y) => (ignore_index !== null && y === BigInt(ignore_index) ? 0 : 1)));
    rowWeights = weight === undefined ? kept : kept.mul(labels.mul(weight).sum(1));
    if (weight === undefined && ignore_index === null) rowWeights = undefined;
  }
  return (x) => {
    const loss = tf.losses.softmaxCrossEntropy(labels.toFloat(), asRows(x), rowWeights, label_smoothing, reduced);
    return reduction === 'none' ? loss.reshape([N, ...rest]) : loss;
  };
}

const operations = {
  log_softmax: () => (x) => tf.logSoftmax(x),
  softmax_cross_entropy: crossEntropy,
};

const description = {
  protocol: 'lossref-protocol/1',
  name: 'tfjs',
  versions: {'@tensorflow/tfjs': tf.version.tfjs, node: process.versions.node},
  operations: Object.keys(operations),
  promises: {
    'float32': {accuracy: 'A'},
    'softmax_cross_entropy/float32': {accuracy: 'B'}, // it computes logits - logSumExp(logits)
  },
};

function run({id, operation, inputs, parameters, cotangent}) {
  const given = Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, read(value)]));
  const f = operations[operation](given, parameters);
  const started = performance.now();
  const {value, grads} = cotangent === null ? {value: f(given.logits)} : tf.valueAndGrads(f)([given.logits], read(cotangent));
  const seconds = (performance.now() - started) / 1000;
  return {id, output: written(value), gradients: grads === undefined ? {} : {logits: written(grads[0])}, seconds};
}

for await (const line of createInterface({input: process.stdin})) {
  const message = JSON.parse(line);
  if (message.cmd === 'stop') break;
  let reply = description;
  if (message.cmd === 'run') {
    try {
      reply = tf.tidy(() => run(message));
    } catch (error) {
      reply = error instanceof Unsupported ? {id: message.id, unsupported: error.message} : {id: message.id, error: String(error)};
    }
  }
  process.stdout.write(JSON.stringify(reply) + '\n');
}
process.exit(0);
