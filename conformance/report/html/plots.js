// The plots: how much of the allowed error was used, against the number of classes and against the size of the logits, and ulps.

const LEAST = 1e-4, MOST = 1e8;  // ratios beyond are drawn at the ends
const DOT = 3;

const AGAINST = {
  classes: {
    title: 'Error / allowed against the number of classes V',
    name: 'classes V', low: 1, cap: 1e6, of: (finding) => finding.case.classes,
    without: 'without a class axis (kl_div is pointwise)',
  },
  scale: {
    title: 'Error / allowed against logit scale',
    name: 'largest |logit| or |log-probability|', low: 0.1, cap: 1e6, of: (finding) => finding.case.scale,
    without: 'whose first input are probabilities, which have no scale',
  },
};

function plotsView(state) {
  const found = filtered(state).filter((finding) => finding.ratio !== null);
  const dtypes = DATA.dtypes.filter((dtype) => found.some((finding) => finding.dtype === dtype));
  return [
    h('h1', { tabindex: '-1' }, 'Plots'),
    filterBar(state),
    h('p', { class: 'lead' }, `${count(found.length, 'measured tensor')}, each by its worst element. Above the line at 1 an answer is wrong. `,
      'A dot opens the worst finding under it.'),
    h('p', { class: 'key' }, ['pass', 'known', 'unexpected'].map((status) => [h('span', { class: `dot ${status}` }), ` ${STATUS[status]} `])),
    Object.keys(AGAINST).map((against) => ratioPlots(found, dtypes, against)),
    histograms(found, dtypes),
  ];
}

function ratioPlots(found, dtypes, against) {
  const { title, name, low, cap, of, without } = AGAINST[against];
  const placed = found.filter((finding) => of(finding) !== null);
  const largest = placed.reduce((most, finding) => Math.max(most, of(finding)), 10 * low);
  const high = Math.min(cap, 10 ** Math.ceil(Math.log10(largest)));
  const worst = placed.reduce((most, finding) => Math.max(most, finding.ratio), 10);
  const top = Math.min(MOST, 10 ** Math.ceil(Math.log10(worst)));
  const x = logAxis(low, high, INNER.x), y = logAxis(LEAST, top, INNER.y);
  const ends = { bottom: [LEAST, '0'] };
  if (worst > top) ends.top = [top, `≥${decade(top)}`];
  if (largest > high) ends.right = [high, `≥${decade(high)}`];
  return h('section', { class: 'plots', 'data-plot': against }, h('h2', {}, title),
    h('div', { class: 'panels' }, dtypes.map((dtype) => {
      const here = placed.filter((finding) => finding.dtype === dtype);
      const over = here.filter((finding) => finding.ratio > 1);
      return panel(dtype, `${dtype}: ${count(here.length, 'tensor')}, ${over.length} above the bound`, [
        frame(x, y, [name, 'error / allowed'], ends),
        s('line', { class: 'bound', x1: INNER.x[0], x2: INNER.x[1], y1: y.at(1), y2: y.at(1) }),
        s('text', { class: 'bound-name', x: INNER.x[1] - 4, y: y.at(1) - 4, 'text-anchor': 'end' }, 'bound'),
        dots(here, (finding) => x.at(of(finding)), (finding) => y.at(finding.ratio)),
      ], worstOf(over));
    })),
    found.length > placed.length ? h('p', { class: 'quiet' }, `Not drawn: ${found.length - placed.length} ${without}.`) : null);
}

// One dot for all that fall on the same place, of the colour of the worst.
function dots(found, x, y) {
  const places = new Map();
  for (const finding of found) {
    const key = `${Math.round(x(finding) / DOT)} ${Math.round(y(finding) / DOT)}`;
    const there = places.get(key);
    if (!there) places.set(key, { worst: finding, count: 1 });
    else {
      there.count += 1;
      if (byBadness(finding, there.worst) < 0) there.worst = finding;
    }
  }
  const drawn = [...places].sort(([, a], [, b]) => RANK[b.worst.status] - RANK[a.worst.status]);
  return drawn.map(([key, { worst, count: many }]) => {
    const [column, line] = key.split(' ').map(Number);
    return s('rect', {
      class: `dot ${worst.status}${many > 9 ? ' many' : ''}`, x: column * DOT - 1.5, y: line * DOT - 1.5, width: DOT, height: DOT,
      onclick: () => { location.hash = findingAddress(worst); },
    }, s('title', {}, `${many} here; the worst: ${worst.backend} ${worst.case.id} ${figure(worst.ratio)}`));
  });
}

// What a picture shows to the eye, as a list for the keyboard and the ear.
function worstOf(over) {
  if (!over.length) return h('p', { class: 'quiet' }, 'Nothing is above the bound.');
  return h('details', {}, h('summary', {}, `${over.length} above the bound`),
    h('ol', {}, [...over].sort(byBadness).slice(0, 8).map((finding) => h('li', {},
      h('a', { href: findingAddress(finding) }, `${finding.backend} ${finding.case.id}`), ` ${figure(finding.ratio)}`))));
}

const ENDS = 11;  // the bars to either side; the last has all that is beyond the one before

// Bars of a half, 1, 2, 4 ... ulps to either side of no error at all.
function bin(finding) {
  if (finding.ulps === 0 || !finding.side) return 0;
  return finding.side * Math.max(1, Math.min(ENDS, Math.ceil(Math.log2(finding.ulps)) + 2));
}

// What a bar has at most, in ulps.
const most = (k) => (k === 1 ? '½' : String(2 ** (k - 2)));

function barLabel(k) {
  const sign = k < 0 ? '−' : '';
  if (k === 0) return '0';
  return Math.abs(k) === ENDS ? `${k < 0 ? '<' : '>'} ${sign}${most(ENDS - 1)}` : `${sign}${most(Math.abs(k))}`;
}

function barTitle(k) {
  if (k === 0) return 'no error';
  return `${Math.abs(k) === ENDS ? `more than ${most(ENDS - 1)}` : `up to ${most(Math.abs(k))}`} ulps ${k < 0 ? 'below' : 'above'}`;
}

function histograms(found, dtypes) {
  const placed = found.filter((finding) => Number.isFinite(finding.ulps) && (finding.side || finding.ulps === 0));
  return h('section', { class: 'plots', 'data-plot': 'ulps' }, h('h2', {}, 'Signed error in ulps'),
    h('div', { class: 'panels' }, dtypes.map((dtype) => histogram(dtype, placed.filter((finding) => finding.dtype === dtype)))),
    h('p', { class: 'quiet' }, 'Left: the answer lies below the truth. Bars that differ on both sides show a bias; an ulp is the spacing of the dtype there. Red: wrong.',
      found.length > placed.length ? ` Not drawn: ${found.length - placed.length} infinities, nan and answers of another kind.` : ''));
}

function histogram(dtype, found) {
  const bins = grouped(found, bin), tallest = Math.max(10, ...[...bins.values()].map((members) => members.length));
  const [left, right] = INNER.x, [bottom] = INNER.y;
  const y = logAxis(0.5, 10 ** Math.ceil(Math.log10(tallest)), INNER.y);
  const width = (right - left) / (2 * ENDS + 1);
  const at = (k) => left + (k + ENDS) * width;
  const bars = [...bins].map(([k, members]) => {
    const over = members.filter((finding) => finding.ratio > 1).length;
    const bar = (n, status) => (n ? s('rect', { class: `bar ${status}`, x: at(k) + 0.5, y: y.at(n), width: width - 1, height: bottom - y.at(n) }) : null);
    return s('g', {}, bar(members.length, 'pass'), bar(over, 'wrong'), s('title', {}, `${barTitle(k)}: ${members.length}, ${over} of them wrong`));
  });
  const marks = [-ENDS, -8, -5, -2, 0, 2, 5, 8, ENDS];
  const below = found.filter((finding) => finding.side < 0).length, above = found.filter((finding) => finding.side > 0).length;
  return panel(dtype, `${dtype}: ${below} below the truth, ${above} above, ${found.length - below - above} exact`, [
    frame({ at: () => 0, marks: [] }, y, ['ulps below or above the truth', 'tensors'], { bottom: [0.5, '0'] }), bars,
    marks.map((k) => s('text', { class: 'tick', x: at(k) + width / 2, y: bottom + 13, 'text-anchor': 'middle' }, barLabel(k))),
  ], h('p', { class: 'quiet' }, `${below} below, ${found.length - below - above} exact, ${above} above`));
}
