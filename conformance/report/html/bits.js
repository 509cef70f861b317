// The bits of an answer beside those of the correctly rounded one: sign, exponent, mantissa; those that differ are marked.

function bitsTable(about) {
  const layout = DATA.formats[about.format], [expected, actual] = about.bits;
  if (!layout || !actual) return null;
  const width = actual.length * 4, exponent = layout[1];
  const digits = (hex) => BigInt(`0x${hex}`).toString(2).padStart(width, '0');
  const right = expected ? digits(expected) : '', came = digits(actual);
  const parts = [['sign', 0, 1], ['exponent', 1, 1 + exponent], ['mantissa', 1 + exponent, width]];
  const boxes = (bits, other, from, to) => h('span', { class: 'boxes' }, [...bits.slice(from, to)].map((bit, i) =>
    h('span', { class: other && other[from + i] !== bit ? 'bit differs' : 'bit' }, bit)));
  const line = (label, bits, other, hex) => h('tr', {}, h('th', { scope: 'row' }, label),
    parts.map(([, from, to]) => h('td', {}, boxes(bits, other, from, to))), h('td', { class: 'number' }, `0x${hex}`));
  return h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Bits' },
    h('table', { class: 'bits' },
      h('caption', {}, `Bits in ${about.format}`),
      h('thead', {}, h('tr', {}, h('td'), parts.map(([name]) => h('th', { scope: 'col' }, name)), h('th', { scope: 'col' }, 'hex'))),
      h('tbody', {}, expected ? line('correctly rounded', right, came, expected) : null, line('came', came, right, actual))),
    h('p', { class: 'quiet' }, expected ? apart(right, came, exponent, about.format) : 'The truth lies too near the middle between two numbers to say how it rounds.'));
}

function apart(right, came, exponent, format) {
  const special = (bits) => !bits.slice(1, 1 + exponent).includes('0');
  if (right === came) return 'The same number.';
  if (special(right) || special(came)) return 'An exponent of ones alone is an infinity or a nan.';
  const order = (bits) => (bits[0] === '1' ? -1n : 1n) * BigInt(`0b${bits.slice(1)}`);
  const steps = order(came) - order(right), size = steps < 0n ? -steps : steps;
  if (size === 0n) return 'Zeros of different sign are the same number.';
  return `${size} ${size === 1n ? 'step' : 'steps'} of ${format} ${steps < 0n ? 'below' : 'above'} the correctly rounded number.`;
}
