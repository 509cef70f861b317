// What the plots share: a panel with logarithmic axes whose last mark at either end stands for all beyond it.

const PANEL = { width: 330, height: 236, left: 50, right: 12, top: 10, bottom: 34 };
const INNER = { x: [PANEL.left, PANEL.width - PANEL.right], y: [PANEL.height - PANEL.bottom, PANEL.top] };

// From a value to its place between two ends; `marks` are the decades that are named.
function logAxis(low, high, [from, to]) {
  const a = Math.log10(low), b = Math.log10(high);
  const at = (x) => {
    const clamped = Math.min(Math.max(Math.log10(Math.max(x, Number.MIN_VALUE)), a), b);
    return from + (to - from) * (clamped - a) / (b - a);
  };
  const step = Math.max(1, Math.ceil((b - a) / 6));
  const marks = [];
  for (let k = Math.ceil(a); k <= b + 1e-9; k += 1) if ((k - Math.round(a)) % step === 0 || k === 0) marks.push(10 ** k);
  return { at, marks, low, high };
}

const decade = (x) => {
  const k = Math.round(Math.log10(x));
  return k >= -2 && k <= 4 ? String(Number((10 ** k).toPrecision(1))) : `1e${k}`;
};

// The frame of a panel: axes, marks, their names. `ends` names the marks that stand for more than themselves.
function frame(x, y, names, ends = {}) {
  const [left, right] = INNER.x, [bottom, top] = INNER.y;
  const label = (mark, kind) => (ends[kind] && Math.abs(Math.log10(mark / ends[kind][0])) < 1e-6 ? ends[kind][1] : null);
  return [
    s('rect', { class: 'plot', x: left, y: top, width: right - left, height: bottom - top }),
    x.marks.map((mark) => [
      s('line', { class: 'grid', x1: x.at(mark), x2: x.at(mark), y1: bottom, y2: top }),
      s('text', { class: 'tick', x: x.at(mark), y: bottom + 13, 'text-anchor': 'middle' }, label(mark, 'right') || decade(mark)),
    ]),
    y.marks.map((mark) => [
      s('line', { class: 'grid', x1: left, x2: right, y1: y.at(mark), y2: y.at(mark) }),
      s('text', { class: 'tick', x: left - 5, y: y.at(mark) + 3.5, 'text-anchor': 'end' }, label(mark, 'top') || label(mark, 'bottom') || decade(mark)),
    ]),
    s('text', { class: 'name', x: (left + right) / 2, y: PANEL.height - 6, 'text-anchor': 'middle' }, names[0]),
    s('text', { class: 'name', x: 0, y: 0, 'text-anchor': 'middle', transform: `translate(9 ${(bottom + top) / 2}) rotate(-90)` }, names[1]),
  ];
}

const panel = (title, words, parts, after) => h('figure', { class: 'panel' }, h('figcaption', {}, title),
  s('svg', { viewBox: `0 0 ${PANEL.width} ${PANEL.height}`, role: 'img', 'aria-label': words }, parts), after);
