// The state of the page is the part of its address after #: the view, and the filters. Whoever gets the address sees the same.

const FILTERS = ['backend', 'mode', 'operation', 'dtype', 'direction', 'verdict', 'clause', 'text'];
const FIELDS = ['view', ...FILTERS, 'case', 'output'];

function readState() {
  const given = new URLSearchParams(location.hash.slice(1));
  return Object.fromEntries(FIELDS.filter((name) => given.get(name)).map((name) => [name, given.get(name)]));
}

function address(state) {
  const parts = FIELDS.filter((name) => state[name]).map((name) => `${name}=${encodeURIComponent(state[name]).replaceAll('%2F', '/')}`);
  return `#${parts.join('&')}`;
}

const filtersOf = (state) => Object.fromEntries(FILTERS.filter((name) => state[name]).map((name) => [name, state[name]]));

const findingAddress = (finding, filters = {}) => address({
  ...filters, view: 'finding', case: finding.case.id, backend: finding.backend, mode: finding.mode, output: finding.output,
});

const VERDICTS = {
  wrong: ['all that is wrong', (finding) => finding.status !== 'pass'],
  unexpected: ['unexpected failures', (finding) => finding.status === 'unexpected'],
  known: ['known deviations', (finding) => finding.status === 'known'],
  pass: ['passes', (finding) => finding.status === 'pass'],
  fail: ['wrong answers', (finding) => finding.verdict === 'fail'],
  error: ['exceptions', (finding) => finding.verdict === 'error'],
  crash: ['crashes', (finding) => finding.verdict === 'crash'],
  timeout: ['timeouts', (finding) => finding.verdict === 'timeout'],
};

// Findings that every filter leaves; a clause leaves those that name it.
function filtered(state) {
  const words = (state.text || '').toLowerCase().split(/\s+/).filter(Boolean);
  const verdict = state.verdict && VERDICTS[state.verdict] ? VERDICTS[state.verdict][1] : () => true;
  const same = ['backend', 'mode', 'operation', 'dtype', 'direction'].filter((name) => state[name]);
  return FINDINGS.filter((finding) => same.every((name) => finding[name] === state[name])
    && verdict(finding)
    && (!state.clause || finding.clauses.includes(state.clause))
    && (!words.length || words.every((word) => haystack(finding).includes(word))));
}

const haystack = (finding) => [
  finding.case.id, finding.backend, finding.mode, finding.output, finding.note, finding.other, finding.clauses.join(' '),
  finding.deviation ? finding.deviation.reason : '',
].join(' ').toLowerCase();

// The controls. A change replaces the address, so that Back leaves the view instead of undoing letters.
function filterBar(state) {
  const distinct = (name) => [...new Set(FINDINGS.map((finding) => finding[name]))];
  const named = new Set(DATA.sets.flat());
  const clauses = DATA.clauses.map((clause) => clause.id).filter((id) => named.has(id));
  const options = {
    backend: distinct('backend'), mode: distinct('mode'), operation: distinct('operation'), dtype: DATA.dtypes,
    direction: distinct('direction'), verdict: Object.keys(VERDICTS), clause: clauses,
  };
  const change = (name, value) => {
    history.replaceState(null, '', address({ ...readState(), [name]: value }));
    render(name);
  };
  const select = (name) => h('label', {}, h('span', {}, name), h('select', { name, onchange: (event) => change(name, event.target.value) },
    h('option', { value: '' }, 'all'),
    options[name].map((value) => h('option', { value, selected: state[name] === value }, name === 'verdict' ? VERDICTS[value][0] : value || 'plain'))));
  const text = h('input', { type: 'search', name: 'text', value: state.text || '', placeholder: 'id, note, reason …',
    oninput: (event) => change('text', event.target.value) });
  return h('form', { class: 'filters', role: 'search', 'aria-label': 'Filters', onsubmit: (event) => event.preventDefault() },
    Object.keys(options).map(select), h('label', { class: 'wide' }, h('span', {}, 'text'), text),
    h('button', { type: 'button', onclick: () => { location.hash = address({ view: state.view }); } }, 'Clear'));
}
