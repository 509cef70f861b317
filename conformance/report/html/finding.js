// One finding: what was asked, what is right, what came, by how much it is off, why, and how to see it first hand.

let listed = { view: 'findings', verdict: 'wrong' };  // the list that was last looked at, to go back to

function findFinding(state) {
  return FINDINGS.find((finding) => finding.case.id === state.case && finding.backend === state.backend
    && finding.mode === (state.mode || '') && finding.output === state.output);
}

function findingView(state) {
  const finding = findFinding(state);
  if (!finding) return [h('h1', { tabindex: '-1' }, 'No such finding'), h('p', {}, 'This report has no finding of that address. ', h('a', { href: '#' }, 'To the matrix'))];
  const about = told(finding);
  return [
    trail(finding),
    h('h1', { tabindex: '-1' }, headlineOf(finding, about)),
    h('p', { class: 'lead' }, h('span', { class: `badge ${finding.status}` }, STATUS[finding.status]), ' ',
      `${finding.operation}, ${finding.dtype}, ${finding.direction}${modeOf(finding) ? `, ${modeOf(finding)}` : ''}: ${place(finding, about ? about.index : '')}`,
      about && about.inputs ? [' from ', h('span', { class: 'number' }, about.inputs)] : null),
    h('div', { class: 'two' },
      h('div', {}, numbers(finding, about), boundPicture(finding, about), about ? bitsTable(about) : null, inputs(finding)),
      h('div', { class: 'beside' }, why(finding), firstHand(finding))),
    scriptOf(finding, about),
    neighbours(finding),
  ];
}

function trail(finding) {
  const cell = { view: 'findings', backend: finding.backend, mode: finding.mode, operation: finding.operation, dtype: finding.dtype };
  return h('nav', { class: 'trail', 'aria-label': 'Where this is' },
    h('a', { href: '#' }, 'Matrix'), ' › ',
    h('a', { href: address(cell) }, `${finding.backend}${modeOf(finding) ? ` ${modeOf(finding)}` : ''} · ${finding.operation} · ${finding.dtype}`), ' › ',
    finding.status === 'pass' ? null : [h('a', { href: address({ ...cell, clause: filedUnder(finding) }) }, filedUnder(finding)), ' › '],
    h('span', { 'aria-current': 'page' }, breakable(finding.case.id)));
}

function headlineOf(finding, about) {
  if (finding.status === 'pass' && finding.ratio === null) return `${finding.backend} raises an exception, as it should`;
  if (finding.status === 'pass') return `${finding.backend} is within the bound: ${figure(finding.ratio)} of the allowed error`;
  if (finding.verdict !== 'fail') return `${finding.backend}: ${finding.verdict}. ${finding.note}`;
  if (!about || !about.actual || !about.expected) return `${finding.backend}: ${finding.note || 'what came can’t be compared'}`;
  return `${finding.backend} says ${cut(about.actual)} where ${cut(about.expected)} is right`;
}

function numbers(finding, about) {
  const number = (text, span) => h('td', { class: 'number', colspan: span }, text);
  const line = (label, ...cells) => h('tr', {}, h('th', { scope: 'row' }, label),
    cells.length === 1 ? number(cells[0], 3) : cells.map((cell) => number(cell)));
  const rows = [];
  if (about && (about.expected || about.actual)) {
    rows.push(line('expected', about.expected, about.expected_hex, about.radius ? `± ${about.radius}` : ''),
      line('came', about.actual, about.actual_hex, about.format));
  }
  if (finding.ratio !== null) {
    const ulps = Number.isFinite(finding.ulps) ? `, ${figure(finding.ulps)} ulps` : '';
    rows.push(line('error', finding.ratio < Infinity ? `${figure(finding.ratio)} × what is allowed${ulps}` : '∞: what came differs in kind'));
  }
  if (about && about.allowed) rows.push(line('allowed', `${about.allowed} in class ${finding.accuracy}, which is promised: ${DATA.classes[finding.accuracy] || ''}`));
  if (finding.kept !== null) {
    rows.push(line('classes kept', `${[...finding.kept].join(' ') || 'not one'}${finding.other ? ', by the definition that it follows' : ''}`));
  }
  if (finding.status === 'pass' && finding.ratio === null) rows.push(line('came', 'an exception, which is right here'));
  else if (!about && finding.status === 'pass') rows.push(line('numbers', 'not kept for a pass'));
  return h('div', { class: 'scroll' }, h('table', { class: 'facts-table', 'aria-label': 'Numbers' }, h('tbody', {}, rows)));
}

function why(finding) {
  const { deviation } = finding;
  const paragraphs = [];
  if (deviation) {
    paragraphs.push(h('p', {}, deviation.reason, deviation.reason.endsWith('.') ? '' : '.', ' ',
      deviation.issue ? ['Upstream: ', issueLink(deviation.issue)] : 'No upstream report is known.',
      deviation.until ? ` To be mended in ${deviation.until}.` : '', deviation.varies ? ' It shows only sometimes.' : ''));
  }
  if (finding.note) paragraphs.push(h('p', {}, 'What happened: ', finding.note));
  if (finding.composed) paragraphs.push(h('p', { class: 'quiet' }, `${finding.backend} has no ${finding.operation}: it was composed of the library’s own functions.`));
  return h('section', { class: 'why' },
    h('h2', {}, finding.status === 'pass' ? 'What it shows' : 'Why it is wrong'), paragraphs,
    h('ul', { class: 'clauses' }, finding.clauses.map((id) => h('li', {}, h('a', { href: address({ view: 'clause', clause: id }) }, id), ' ',
      h('span', { class: 'level' }, levelOf(id)), ' ', CLAUSES.has(id) ? CLAUSES.get(id).statement : 'not a clause of this specification'))),
    finding.case.flags.length ? h('ul', {}, finding.case.flags.map((flag) => h('li', {}, h('b', {}, flag), DATA.flags[flag] ? `: ${DATA.flags[flag]}` : ''))) : null);
}

function issueLink(issue) {
  const short = /^[\w.-]+\/[\w.-]+#\d+$/.test(issue);
  if (!short && !/^https:\/\/[\w./#?=&%-]+$/.test(issue)) return issue;
  return h('a', { href: short ? `https://github.com/${issue.replace('#', '/issues/')}` : issue, rel: 'noreferrer noopener' },
    issue.replace('https://github.com/', ''));
}

function inputs(finding) {
  const { inputs: arrays, parameters, layouts } = finding.case;
  const laid = new Map(layouts);
  const shown = arrays.filter(([name]) => name !== 'cotangent' || finding.direction === 'backward');
  return h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Inputs and parameters' },
    h('table', { class: 'facts-table' }, h('caption', {}, 'Inputs'), h('tbody', {},
      shown.map(([name, shape, text]) => h('tr', {}, h('th', { scope: 'row' }, name), h('td', { class: 'number' }, shape, laid.has(name) ? h('small', {}, ` in memory: ${laid.get(name)}`) : null), h('td', { class: 'number wrap' }, text))),
      parameters.map(([name, text]) => h('tr', {}, h('th', { scope: 'row' }, name), h('td', {}, 'parameter'), h('td', { class: 'number wrap' }, text))))),
    finding.case.source ? h('p', { class: 'quiet' }, 'From ', issueLink(finding.case.source), '.') : null);
}

const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\"'\"'")}'`);

function firstHand(finding) {
  const { command } = DATA.backends.find((backend) => backend.name === finding.backend);
  return h('section', {}, h('h2', {}, 'See it first hand'),
    h('p', {}, 'Judge this case again:'), copyable(`lossref run ${command} --case ${finding.case.id}`, 'Command'));
}

function scriptOf(finding, about) {
  if (about && about.script) {
    return h('section', {}, h('h2', {}, 'Without lossref'), h('p', {}, 'This script shows it in the library’s own API:'), copyable(about.script, 'Script'));
  }
  return h('section', {}, h('h2', {}, 'Without lossref'), h('p', {}, 'This prints the case as a script in the library’s own API, where one can be written:'),
    copyable(`lossref show ${finding.case.id} --backend ${quoted(finding.backend)} --script`, 'Script command'));
}

// The findings before and after this one, in the list that was last looked at.
function neighbours(finding) {
  const list = filtered(listed).sort(byBadness);
  const at = list.indexOf(finding);
  if (at < 0) return null;
  const step = (other, text) => (other ? h('a', { href: findingAddress(other) }, text) : null);
  return h('nav', { class: 'neighbours', 'aria-label': 'Neighbours in the list' },
    step(list[at - 1], '← before'), h('a', { href: address(listed) }, `${at + 1} of ${list.length}`), step(list[at + 1], 'after →'));
}
