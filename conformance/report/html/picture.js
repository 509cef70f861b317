// The bound as a picture: an axis in units of the allowed error, around the truth, with the answer where it lies.
//
// Near the bound the axis is linear. Far out, it is linear as far as the bound and logarithmic from there on, and shows where it breaks.

const WIDTH = 640, HEIGHT = 146, LINE = 74, FAR = 1.8;

function boundPicture(finding, about) {
  const { ratio, side } = finding;
  if (ratio === null || !side || (ratio === Infinity && !(about && /inf/.test(about.actual)))) return unlikeKinds(finding, about);
  const far = ratio > FAR, sign = side, beyond = ratio === Infinity;
  const decades = far && !beyond ? Math.max(1, Math.ceil(Math.log10(ratio))) : 1;
  const centre = far ? WIDTH / 2 - sign * WIDTH * 0.25 : WIDTH / 2, half = WIDTH * (far ? 0.13 : 0.2);
  const reach = WIDTH * 0.53;
  const at = (u) => (!far || sign * u <= 1 ? centre + u * half
    : centre + sign * (half + (u === sign * Infinity ? reach : Math.log10(Math.abs(u)) / decades * reach)));
  const radius = about && about.radius && about.allowed ? Number(about.radius) / Number(about.allowed) : 0;
  const spacing = finding.ulps > 0 && Number.isFinite(finding.ulps) ? ratio / finding.ulps : 0;
  const value = at(sign * ratio);
  const parts = [
    s('rect', { class: 'allowed', x: at(-1), y: LINE - 22, width: 2 * half, height: 44 }),
    s('text', { class: 'label', x: centre, y: LINE - 30, 'text-anchor': 'middle' }, 'allowed'),
    s('line', { class: 'axis', x1: 8, x2: WIDTH - 8, y1: LINE, y2: LINE }),
    s('rect', { class: 'truth', x: centre - Math.max(1, radius * half), y: LINE - 22, width: Math.max(2, 2 * radius * half), height: 44 }),
    ...ticks(far, beyond, decades, sign).map(([u, label]) => [
      s('line', { class: 'axis', x1: at(u), x2: at(u), y1: LINE + (label ? 0 : 2), y2: LINE + 6 }),
      s('text', { class: 'tick', x: at(u), y: LINE + 36, 'text-anchor': 'middle' }, label),
    ]),
  ];
  if (far) {  // where the axis turns logarithmic
    const x = at(sign) + sign * 9;
    parts.push(s('path', { class: 'break', d: `M${x - 4} ${LINE + 6}l4 -12M${x + 1} ${LINE + 6}l4 -12` }));
  }
  if (spacing * half >= 4 && spacing * half < WIDTH * 0.4) {
    const from = 10, to = from + spacing * half;
    parts.push(s('path', { class: 'axis', d: `M${from} 133v6M${from} 136H${to}M${to} 133v6` }),
      s('text', { class: 'label', x: to + 6, y: 140 }, `1 ulp of ${ulpOf(finding, about)}`));
  }
  const right = ratio > 1 ? 'out' : 'in';
  parts.push(beyond
    ? s('path', { class: `mark ${right}`, d: `M${value} ${LINE}l${-sign * 14} -8v16z` })
    : s('path', { class: `mark ${right}`, d: `M${value} ${LINE}m0 -8l8 8l-8 8l-8 -8z` }));
  const anchor = value > WIDTH * 0.8 ? 'end' : value < WIDTH * 0.2 ? 'start' : 'middle';
  parts.push(s('text', { class: `value ${right}`, x: value, y: LINE - 14 - (Math.abs(value - centre) < half + 40 ? 28 : 0), 'text-anchor': anchor },
    beyond ? 'an infinity came' : `came: ${figure(sign * ratio)}`));
  const words = beyond ? 'An infinity came where a number is right: it lies beyond every bound.'
    : `The answer lies ${figure(ratio)} times the allowed error ${sign > 0 ? 'above' : 'below'} the truth${ratio > 1 ? ', outside the allowed interval.' : ', inside the allowed interval.'}`;
  return h('figure', { class: 'picture' },
    s('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': words }, parts),
    h('figcaption', {}, words, ' The axis counts allowed errors',
      about && about.allowed ? [' (1 is ', h('span', { class: 'number' }, about.allowed), ')'] : null,
      '; the line at 0 is the enclosure of the truth',
      radius ? `, ± ${figure(radius)} wide here` : ', one number here', '.',
      far && !beyond ? ' Past the break it is logarithmic.' : ''));
}

// The dtype whose spacing an ulp is: the answer's. The sum of all elements is itself a float64, measured in ulps of theirs.
function ulpOf(finding, about) {
  if (!about || !about.format) return finding.dtype;
  return about.index === null ? 'the answer’s dtype' : about.format;
}

function ticks(far, beyond, decades, sign) {
  if (!far) return [[-1, '−1'], [0, '0'], [1, '1'], [-1.5, ''], [1.5, ''], [-0.5, ''], [0.5, '']];
  const inside = [[-1, '−1'], [0, '0'], [1, '1']];
  if (beyond) return inside;
  const step = Math.ceil(decades / 6);
  const outside = [];
  for (let k = step; k <= decades; k += step) outside.push([sign * 10 ** k, `${sign < 0 ? '−' : ''}${k < 4 ? 10 ** k : `1e${k}`}`]);
  return [...inside, ...outside];
}

// No distance lies between things of different kinds, or nothing was measured.
function unlikeKinds(finding, about) {
  if (finding.ratio === null) return h('p', { class: 'quiet' }, 'No numbers were compared here, so there is no distance to draw.');
  if (finding.ratio === 0) return h('p', { class: 'quiet' }, 'The answer lies inside the enclosure of the truth, or is the very kind that is expected: its error is 0.');
  if (about && about.expected) return h('p', {}, 'No distance lies between ', h('b', {}, about.actual), ' and ', h('b', {}, about.expected), ': they differ in kind, whatever the bound.');
  return h('p', { class: 'quiet' }, `The error is ${figure(finding.ratio)} of what is allowed.`);
}
