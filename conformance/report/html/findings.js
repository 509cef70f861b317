// The list of findings: worst first, grouped by the clause that they are filed under.

const FIRST = 12, MORE = 200;  // rows that are shown at once
const MANY = 10, FEW = 4;  // of each group, where there are many
const COLUMNS = ['', 'Backend', 'Case', 'Tensor', 'Expected', 'Came', 'Error / allowed', 'ulps'];

function findingsView(state) {
  const found = filtered(state).sort(byBadness);
  const wrong = found.filter((finding) => finding.status !== 'pass');
  const groups = [...grouped(wrong, filedUnder)];
  const passes = found.filter((finding) => finding.status === 'pass');
  return [
    h('h1', { tabindex: '-1' }, listTitle(state)),
    filterBar(state),
    h('p', { class: 'lead', id: 'found' }, `${count(found.length, 'finding')}: ${wrong.filter((f) => f.status === 'unexpected').length} unexpected, ${
      wrong.filter((f) => f.status === 'known').length} known, ${passes.length} passed. The worst come first.`),
    lacks(state),
    groups.map(([id, members]) => section(id, members, groups.length > MANY ? FEW : FIRST)),
    passes.length && !(state.verdict === 'wrong') ? h('section', { class: 'group' }, h('h2', {}, 'Within the bound'), table(passes, FIRST)) : null,
    found.length ? null : h('p', { class: 'quiet' }, 'No finding has all of this. ', h('a', { href: address({ view: 'findings' }) }, 'Clear the filters'), '.'),
  ];
}

function listTitle(state) {
  const where = [state.backend, state.mode === 'eager' ? '' : state.mode, state.operation, state.dtype, state.direction].filter(Boolean);
  return where.length ? where.join(' · ') : 'Findings';
}

function section(id, members, shown) {
  const clause = CLAUSES.get(id);
  return h('section', { class: 'group' },
    h('h2', {}, h('a', { href: address({ view: 'clause', clause: id }) }, id), clause ? h('span', { class: 'level' }, clause.level) : null,
      h('small', {}, count(members.length, 'finding'))),
    clause ? h('p', { class: 'statement' }, clause.statement) : null,
    table(members, shown));
}

function table(findings, shown) {
  const body = h('tbody', { role: 'rowgroup' }, findings.slice(0, shown).map(findingRow));
  const rest = findings.length - shown;
  const more = rest > 0 ? h('button', { type: 'button', class: 'more' }, `${rest} more`) : null;
  if (more) {
    more.addEventListener('click', () => {
      const from = body.children.length;
      body.append(...findings.slice(from, from + MORE).map(findingRow));
      body.children[from].querySelector('a').focus();
      if (body.children.length >= findings.length) more.remove();
      else more.textContent = `${findings.length - body.children.length} more`;
    });
  }
  return [h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Findings' }, h('table', { class: 'findings', role: 'table' },
    h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, COLUMNS.map((head, i) => h('th', { scope: 'col', role: 'columnheader', class: i > 3 ? 'number' : null },
      head || h('span', { class: 'hidden' }, 'status'))))), body)), more];
}

const MARKS = { pass: '✓', known: '◆', unexpected: '!' };

function findingRow(finding) {
  const about = told(finding);
  const cell = (kind, ...children) => h('td', { class: kind, role: 'cell' }, children);
  return h('tr', { class: finding.status, role: 'row' },
    cell('status', h('span', { title: STATUS[finding.status], 'aria-label': STATUS[finding.status], role: 'img' }, MARKS[finding.status])),
    cell(null, finding.backend, modeOf(finding) ? h('small', {}, ` ${modeOf(finding)}`) : null),
    h('th', { scope: 'row', role: 'rowheader' }, h('a', { href: findingAddress(finding) }, breakable(finding.case.id))),
    cell(null, h('small', {}, place(finding))),
    cell('number expected', about ? cut(about.expected) : ''),
    cell(finding.status === 'pass' ? 'number' : 'number wrong', came(finding, about)),
    cell('number ratio', figure(finding.ratio)),
    cell('number ulps', figure(finding.ulps)));
}

function came(finding, about) {
  if (about && about.actual) return cut(about.actual);
  return finding.status === 'pass' ? '' : cut(`${finding.verdict === 'fail' ? '' : `${finding.verdict}: `}${finding.note}`);
}

const cut = (text) => (text.length > 46 ? `${text.slice(0, 45)}…` : text);
const breakable = (id) => id.split('/').flatMap((part, i) => (i ? ['/', h('wbr'), part] : [part]));

// What a cell was not asked, and why.
function lacks(state) {
  const same = ['backend', 'mode', 'operation', 'dtype', 'direction'];
  if (!state.backend || !state.operation) return null;
  const reasons = new Map();
  for (const entry of DATA.unsupported) {
    if (same.every((name, i) => !state[name] || state[name] === entry[i])) reasons.set(entry[5], (reasons.get(entry[5]) || 0) + entry[6]);
  }
  const total = [...reasons.values()].reduce((sum, n) => sum + n, 0);
  if (!total) return null;
  return h('details', {}, h('summary', {}, `${count(total, 'tensor')} not judged: unsupported`),
    h('ul', {}, [...reasons].map(([reason, n]) => h('li', {}, `${n}: ${reason || 'no reason given'}`))));
}
