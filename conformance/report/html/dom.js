// Elements, made of what they hold. All text is text: nothing here ever parses HTML.

const SVG = 'http://www.w3.org/2000/svg';

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child);  // a string becomes a text node
  }
  return element;
}

const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const byId = (id) => document.getElementById(id);

function say(text) {
  byId('status').textContent = text;
}

// Three digits, never so few that a ratio past 1 reads as 1.
function figure(x) {
  if (x === null) return '–';
  if (x === Infinity) return '∞';
  if (x === 0) return '0';
  const size = Math.abs(x);
  if (size >= 1e5 || size < 1e-3) {
    const [mantissa, power] = x.toExponential(2).split('e');
    return `${mantissa.includes('.') ? mantissa.replace(/\.?0+$/, '') : mantissa}e${power.replace('+', '')}`;
  }
  const text = String(Number(x.toPrecision(3)));
  return x > 1 && Number(text) <= 1 ? String(x) : text;
}

const count = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;

function grouped(items, key) {
  const groups = new Map();
  for (const item of items) {
    const name = key(item);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(item);
  }
  return groups;
}

// A text that is copied by a button beside it.
function copyable(text, label) {
  const button = h('button', { type: 'button', class: 'copy', 'aria-label': `Copy ${label}` }, 'Copy');
  button.addEventListener('click', async () => {
    await copied(text);
    button.textContent = 'Copied';
    say(`${label} copied`);
    setTimeout(() => { button.textContent = 'Copy'; }, 1500);
  });
  return h('div', { class: text.includes('\n') ? 'code' : 'code command' }, button, h('pre', { tabindex: '0', 'aria-label': label }, h('code', {}, text)));
}

// A page from disk may have no clipboard of its own in some browsers; a selection can be copied in all.
async function copied(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  const area = h('textarea', { class: 'hidden', 'aria-hidden': 'true' });
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand('copy');
  area.remove();
  return undefined;
}
