// The clauses of the specification: who keeps them, and for each a page of its own.

const STANDINGS = { kept: '✓', inaccurate: '≈', broken: '✗' };
const MEANING = { kept: 'kept', inaccurate: 'numbers out of bound, so undecided', broken: 'broken' };

function clausesView(state) {
  const words = (state.text || '').toLowerCase();
  const spoken = DATA.clauses.filter((clause) => DATA.backends.some((backend) => backend.standings[clause.id])
    && (!words || `${clause.id} ${clause.statement}`.toLowerCase().includes(words)));
  const text = h('input', { type: 'search', name: 'text', value: state.text || '', placeholder: 'id or words …', oninput: (event) => {
    history.replaceState(null, '', address({ ...readState(), text: event.target.value }));
    render('text');
  } });
  return [
    h('h1', { tabindex: '-1' }, 'Clauses'),
    h('form', { class: 'filters', role: 'search', 'aria-label': 'Filters', onsubmit: (event) => event.preventDefault() },
      h('label', { class: 'wide' }, h('span', {}, 'text'), text)),
    h('p', { class: 'lead' }, 'What the specification demands, and how it stands: ',
      Object.keys(STANDINGS).map((standing) => [mark(standing), ` ${MEANING[standing]} `]), '; blank: nothing was asked that shows it.'),
    h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Clauses' }, h('table', { class: 'standings' },
      h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'Clause'), h('th', { scope: 'col' }, 'Level'),
        DATA.backends.map((backend) => h('th', { scope: 'col' }, backend.name)), h('th', { scope: 'col' }, 'Statement'))),
      h('tbody', {}, spoken.map((clause) => h('tr', {}, h('th', { scope: 'row' }, h('a', { href: address({ view: 'clause', clause: clause.id }) }, clause.id)),
        h('td', {}, h('span', { class: 'level' }, clause.level)),
        DATA.backends.map((backend) => h('td', { class: 'standing' }, standingMark(backend, clause.id))),
        h('td', { class: 'wide' }, clause.statement)))))),
  ];
}

const mark = (standing) => h('span', { class: `standing ${standing}`, 'aria-hidden': 'true' }, STANDINGS[standing]);

function standingMark(backend, id) {
  const standing = backend.standings[id];
  if (!standing) return null;
  const words = `${backend.name}: ${MEANING[standing]}`;
  const shown = [mark(standing), h('span', { class: 'hidden' }, words)];
  return standing === 'kept' ? shown
    : h('a', { href: address({ view: 'findings', backend: backend.name, verdict: 'wrong', clause: id }), title: words }, shown);
}

// A paragraph as lines that fill the page; a list, a table or a formula as it stands.
function paragraphOf(text) {
  return /^( {4}|[-*|] |\d+\. )/m.test(text) ? h('pre', {}, text) : h('p', {}, text.replaceAll('\n', ' '));
}

function clauseView(state) {
  const clause = CLAUSES.get(state.clause);
  if (!clause) return [h('h1', { tabindex: '-1' }, 'No such clause'), h('p', {}, h('a', { href: '#view=clauses' }, 'All clauses'))];
  const by = grouped(DATA.backends.filter((backend) => backend.standings[clause.id]), (backend) => backend.standings[clause.id]);
  const wrong = FINDINGS.filter((finding) => finding.status !== 'pass' && finding.clauses.includes(clause.id)).sort(byBadness);
  const evidence = FINDINGS.filter((finding) => finding.clauses.includes(clause.id)).length;
  return [
    h('nav', { class: 'trail', 'aria-label': 'Where this is' }, h('a', { href: '#view=clauses' }, 'Clauses'), ' › ', h('span', { 'aria-current': 'page' }, clause.id)),
    h('h1', { tabindex: '-1' }, clause.id, ' ', h('span', { class: 'level' }, clause.level)),
    h('p', { class: 'statement large' }, clause.statement),
    h('table', { class: 'facts-table', 'aria-label': 'Who keeps it' }, h('tbody', {}, ['broken', 'inaccurate', 'kept'].filter((standing) => by.has(standing)).map((standing) =>
      h('tr', {}, h('th', { scope: 'row' }, mark(standing), ` ${MEANING[standing]}`), h('td', {}, by.get(standing).map((backend, i) => [i ? ', ' : '',
        h('a', { href: address({ view: 'findings', backend: backend.name, clause: clause.id }) }, backend.name)])))))),
    clause.parts.map(([label, text]) => [h('h2', {}, label), text.split('\n\n').map(paragraphOf)]),
    h('p', { class: 'quiet' }, `From the chapter ${clause.chapter}; `, h('code', {}, `lossref spec ${clause.id}`), ` prints it with its vectors. ${count(evidence, 'finding')} here ${evidence === 1 ? 'speaks' : 'speak'} of it.`),
    wrong.length ? [h('h2', {}, 'What breaks it'), [...grouped(wrong, (finding) => finding.backend)].map(([backend, members]) =>
      h('section', { class: 'group' }, h('h3', {}, backend, h('small', {}, count(members.length, 'finding'))), table(members, 6)))] : null,
  ];
}
