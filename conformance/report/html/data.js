// The data of the page, unpacked; and each finding as an object, in the order of the run.

let DATA = null;
let FINDINGS = [];
let CLAUSES = new Map();

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  return JSON.parse(await new Response(stream).text());
}

const measured = (x) => (x === 'nan' ? Infinity : x === null ? null : Number(x === 'inf' ? Infinity : x === '-inf' ? -Infinity : x));
const row = (table, number) => (number < 0 ? null : table[number]);

function load(data) {
  DATA = data;
  CLAUSES = new Map(data.clauses.map((clause) => [clause.id, clause]));
  const columns = data.results;
  FINDINGS = columns.case.map((_, i) => {
    const [backend, mode, operation, dtype, direction, output, accuracy, composed] = data.places[columns.place[i]];
    const verdict = data.texts[columns.verdict[i]];
    const deviation = row(data.deviations, columns.known[i]);
    return {
      backend, mode, operation, dtype, direction, output, accuracy, composed, verdict, deviation,
      case: data.cases[columns.case[i]],
      ratio: measured(columns.ratio[i]),
      ulps: measured(columns.ulps[i]),
      side: columns.side[i],
      clauses: data.sets[columns.clauses[i]],
      kept: row(data.texts, columns.kept[i]),
      note: row(data.notes, columns.note[i]) || '',
      other: row(data.notes, columns.other[i]) || '',
      told: columns.told[i],
      status: verdict === 'pass' ? 'pass' : deviation ? 'known' : 'unexpected',
    };
  });
}

// What was said of the finding's worst element, where it was told.
function told(finding) {
  if (finding.told < 0) return null;
  return Object.fromEntries(Object.entries(DATA.told).map(([name, column]) => [name, column[finding.told]]));
}

const STATUS = { pass: 'pass', known: 'known deviation', unexpected: 'unexpected failure' };
const RANK = { unexpected: 0, known: 1, pass: 2 };

const inputsLength = (finding) => (finding.told < 0 ? 0 : DATA.told.inputs[finding.told].length);

// The worst first: what nobody expected, then the larger ratio, values before gradients, then the smaller input. What is wrong without a
// ratio was not even comparable; a pass without one is an exception that is right, and comes last.
function byBadness(a, b) {
  if (RANK[a.status] !== RANK[b.status]) return RANK[a.status] - RANK[b.status];
  const without = a.status === 'pass' ? -Infinity : Infinity;
  const left = a.ratio === null ? without : a.ratio, right = b.ratio === null ? without : b.ratio;
  if (left !== right) return right > left ? 1 : -1;
  return (a.direction === 'backward') - (b.direction === 'backward') || inputsLength(a) - inputsLength(b);
}

const place = (finding, index = '') => {
  const name = finding.direction === 'forward' ? finding.output : `gradient of ${finding.output}`;
  return index ? `${name}[${index}]` : name;
};

const modeOf = (finding) => (finding.mode === '' || finding.mode === 'eager' ? '' : finding.mode);
const levelOf = (id) => (CLAUSES.has(id) ? CLAUSES.get(id).level : '');

// The clause that a finding is filed under: the one that its deviation names, else the first of its own operation.
const filedUnder = (finding) => (finding.deviation && finding.clauses.includes(finding.deviation.clause) ? finding.deviation.clause
  : finding.clauses.find((id) => !id.startsWith('GEN-')) || finding.clauses[0] || 'no clause');
