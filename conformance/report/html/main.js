// The views by their names, the keyboard, the theme; and the beginning.

const VIEWS = {
  findings: findingsView, finding: findingView, clauses: clausesView, clause: clauseView, plots: plotsView, backends: backendsView,
};
const TAB = { finding: 'findings', clause: 'clauses' };

// Shows what the address says; `kept` names the control that is being used, which stays in use.
function render(kept) {
  const state = readState(), view = VIEWS[state.view];
  byId('overview').hidden = Boolean(view);
  byId('view').hidden = !view;
  if (state.view === 'findings') listed = { ...filtersOf(state), view: 'findings' };
  const old = kept && document.activeElement && document.activeElement.name === kept ? document.activeElement.selectionStart : null;
  byId('view').replaceChildren(...(view ? [view(state)].flat(Infinity).filter(Boolean) : []));
  for (const link of document.querySelectorAll('[data-view]')) {
    const current = link.dataset.view === (view ? TAB[state.view] || state.view : 'matrix');
    if (current) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  if (kept) {
    const control = byId('view').querySelector(`[name="${kept}"]`);
    if (control) {
      control.focus();
      if (old !== null && control.setSelectionRange) control.setSelectionRange(old, old);
    }
    const found = byId('found');
    if (found) say(found.textContent);
  }
}

let leftFrom = null;  // the cell that was opened, to come back to

function moved() {
  render();
  const heading = byId('view').querySelector('h1');
  if (!byId('view').hidden && heading) {
    heading.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  } else if (leftFrom) leftFrom.focus();
}

// One level up: from a finding to its list, from a clause to the clauses, from the rest to the matrix.
function up() {
  const { view } = readState();
  if (view === 'finding') location.hash = address(listed);
  else if (view === 'clause') location.hash = '#view=clauses';
  else if (view) location.hash = '#';
}

const ARROWS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

// In the matrix one cell of each table is a stop of Tab, and arrows go to the next cell that has something to open.
function arrow(event) {
  const from = event.target.closest('.grades td');
  const [down, right] = ARROWS[event.key];
  if (!from) return;
  const rows = [...from.closest('tbody').rows];
  let line = rows.indexOf(from.parentNode), column = from.cellIndex, link = null;
  while (!link) {
    line += down;
    column += right;
    if (!rows[line] || column < 1 || column >= rows[line].cells.length) return;
    link = rows[line].cells[column].querySelector('a');
  }
  event.preventDefault();
  event.target.closest('a').tabIndex = -1;
  link.tabIndex = 0;
  link.focus();
}

function begin() {
  for (const grades of document.querySelectorAll('.grades')) {
    [...grades.querySelectorAll('td a')].forEach((link, i) => { link.tabIndex = i ? -1 : 0; });
  }
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && !(event.target.type === 'search' && event.target.value)) up();
    else if (ARROWS[event.key]) arrow(event);
  });
  byId('overview').addEventListener('click', (event) => { leftFrom = event.target.closest('a') || leftFrom; });
  const theme = byId('theme'), dark = window.matchMedia('(prefers-color-scheme: dark)');
  const isDark = () => (document.documentElement.dataset.theme || (dark.matches ? 'dark' : 'light')) === 'dark';
  const name = () => { theme.textContent = isDark() ? 'Light' : 'Dark'; };
  theme.addEventListener('click', () => {
    document.documentElement.dataset.theme = isDark() ? 'light' : 'dark';
    name();
  });
  dark.addEventListener('change', name);
  name();
  theme.hidden = false;
  window.addEventListener('hashchange', moved);
}

function trouble(text) {
  byId('trouble').textContent = text;
  byId('trouble').hidden = false;
}

begin();
if (typeof DecompressionStream === 'undefined') {
  trouble('This browser can’t unpack the details (it has no DecompressionStream). The headline and the matrix are whole; a newer browser shows the rest.');
} else {
  unpacked(byId('data').textContent.trim()).then((data) => {
    load(data);
    render();
    document.documentElement.dataset.ready = 'yes';
  }, (error) => trouble(`The details can’t be read, so this file is damaged: ${error.message}`));
  window.addEventListener('unhandledrejection', (event) => trouble(`This page has a fault: ${event.reason}`));
}
