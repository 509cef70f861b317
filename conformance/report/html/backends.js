// What was judged: each backend with its versions, what it promises, and what is to be said of it beside its findings.

function backendsView() {
  return [h('h1', { tabindex: '-1' }, 'Backends'), DATA.backends.map((backend) => {
    const own = FINDINGS.filter((finding) => finding.backend === backend.name);
    const counts = grouped(own, (finding) => finding.status);
    const size = (status) => (counts.get(status) || []).length;
    const list = (name, sentences) => (sentences.length ? [h('h3', {}, name), h('ul', {}, sentences.map((sentence) => h('li', {}, sentence)))] : null);
    return h('section', { class: 'group' },
      h('h2', {}, backend.name, h('small', {}, `${backend.versions.join(', ')}; ${backend.device}`)),
      h('p', {}, h('a', { href: address({ view: 'findings', backend: backend.name }) },
        `${size('pass')} passed, ${size('known')} known deviations, ${size('unexpected')} unexpected failures`),
      `. It follows the dialect ${backend.dialect || 'of defaults'}: the published definitions that its answers are held against.`),
      backend.suspicion ? h('p', {}, `Within its bounds, and yet: ${backend.suspicion}.`) : null,
      list('Expectations that no longer hold', backend.problems), list('Notes', backend.notes),
      h('details', {}, h('summary', {}, 'What it promises'), h('div', { class: 'scroll' }, h('table', { class: 'facts-table' }, h('tbody', {},
        backend.promises.map(([mode, key, text]) => h('tr', {}, h('th', { scope: 'row' }, mode ? `${mode}: ${key}` : key), h('td', {}, text))))))),
      h('p', {}, 'Run it again:'), copyable(`lossref run ${backend.command} --tier ${DATA.tier}`, `Command for ${backend.name}`));
  })];
}
