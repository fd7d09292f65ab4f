// Records what Node's util.inspect prints, for core/tests/golden_inspect.rs.
//
// Usage: node core/tests/data/record_inspect.mjs > core/tests/data/inspect.json
//
// A value is written as { n: text of a number }, { t: text }, { l: [values] } or
// { o: [[key, value], ...] }, keys in the order in which they were set.
import util from 'node:util';

const cases = [];

function encode(value) {
  if (typeof value === 'number') {
    return { n: Object.is(value, -0) ? '-0' : String(value) };
  }
  if (typeof value === 'string') return { t: value };
  if (Array.isArray(value)) return { l: value.map(encode) };
  return { o: [...value].map(([key, each]) => [key, encode(each)]) };
}

// Tables are maps here, so that the order in which keys were set is kept in the file.
function real(value) {
  if (Array.isArray(value)) return value.map(real);
  if (!(value instanceof Map)) return value;
  const object = {};
  for (const [key, each] of value) {
    Object.defineProperty(object, key,
      { value: real(each), enumerable: true, configurable: true, writable: true });
  }
  return object;
}

function add(name, value, options = {}) {
  const { depth = 2, colors = false } = options;
  cases.push({ name, depth, colors, value: encode(value),
    text: util.inspect(real(value), { depth, colors }) });
}

const table = (...entries) => new Map(entries);
const numbers = (count, make = (i) => i) => Array.from({ length: count }, (_, i) => make(i));
const keys = (count, make, value = 1) => table(...numbers(count, (i) => [make(i), value]));

// Numbers.
for (const number of [0, -0, 1, -1, 1.5, 1e21, 1e-7, 123456789012, 0.1 + 0.2, NaN, Infinity,
  -Infinity, Number.MAX_SAFE_INTEGER + 1]) {
  add(`number ${Object.is(number, -0) ? '-0' : number}`, number);
}
add('numbers in a table', table(['a', -0], ['b', NaN], ['c', -Infinity], ['d', 1e21], ['e', 2.5]));

// Texts.
for (const text of ['', 'a', "it's", '"', `both ' and "`, "all ' \" `", "dollar ' \" ${x}",
  'back\\slash', '\n', 'tab\tbell\x07esc\x1b[2J', '\x7f\x80\x9f\xa0', 'ä', '漢字', '😀',
  'x'.repeat(75), 'x'.repeat(76), 'x'.repeat(77), 'line\n'.repeat(20), 'x'.repeat(10001),
  'x'.repeat(10003)]) {
  add(`text of ${text.length}`, text);
  add(`text of ${text.length} in a table`, table(['key', text]));
}

// Tables: empty, keys, and the length at which lines break.
add('empty table', table());
for (const key of ['a', '_a', 'a1', '1a', 'a.b', 'a-b', 'a b', '', "it's", '"', '`', `'"`, `'"\``,
  '__proto__', 'toString', 'constructor', 'ä', '漢.字', '😀', 'a\nb', '\x1b[31m', '\x9b', 'a\\b',
  '$a', 'a;tag=1', '\u2028', '\ufffd', '\u00ad']) {
  add(`key ${JSON.stringify(key)}`, table([key, 1]));
}
add('index keys', table(['b', 1], ['10', 2], ['9', 3], ['a', 4], ['007', 5], ['4294967294', 6],
  ['4294967295', 7], ['0', 8], ['1.5', 9], ['-1', 10]));
for (let length = 60; length <= 84; length += 1) {
  add(`one key of ${length}`, table(['k'.repeat(length), 1]));
  add(`two keys of ${length} together`, table(['k'.repeat(length - 20), 1], ['j'.repeat(20), 2]));
}
for (const length of [68, 69, 70, 71, 72, 73, 74, 75, 76, 77]) {
  add(`one quoted key of ${length}`, table([`k.${'k'.repeat(length - 2)}`, 1]));
  add(`wide key of ${length}`, table([`漢${'k'.repeat(length - 1)}`, 1]));
}
for (const count of [2, 3, 6, 7, 10, 12, 13, 14, 15, 16, 17, 20, 21, 22, 23, 24, 26, 34, 35, 101]) {
  add(`${count} short keys`, keys(count, (i) => String.fromCharCode(97 + (i % 26)) + (i < 26 ? '' : i)));
  add(`${count} dotted keys`, keys(count, (i) => `a.b${i}`, -2.5));
}
add('the reference daemon at its start', table(['statsd.bad_lines_seen', 0],
  ['statsd.packets_received', 0], ['statsd.metrics_received', 0]));
add('the reference daemon with a counter', table(['statsd.bad_lines_seen', 0],
  ['statsd.packets_received', 1], ['statsd.metrics_received', 2], ['a.b', 2]));

// Lists.
add('empty list', []);
for (const count of [1, 2, 5, 6, 7, 8, 9, 10, 16, 17, 26, 27, 100, 101, 102]) {
  add(`${count} numbers`, numbers(count));
  add(`${count} equal numbers`, numbers(count, () => 5));
  add(`${count} fractions`, numbers(count, (i) => i * 1.1));
  add(`${count} long numbers`, numbers(count, (i) => 123456789012 + i));
  add(`${count} longer fractions`, numbers(count, (i) => Math.sqrt(i + 2) * 1e6));
  add(`${count} numbers in a timer`, table(['t', numbers(count, (i) => (i * 7) % 1000)]));
  add(`${count} numbers in two timers`, table(['a.t', numbers(count, (i) => i)], ['u', [2]]));
  add(`${count} texts`, numbers(count, (i) => `member${i}`));
  add(`${count} uneven texts`, numbers(count, (i) => 'x'.repeat((i * 7) % 30)));
  add(`${count} wide texts`, numbers(count, (i) => '漢'.repeat(i % 4) + 'e'.repeat(i % 3)));
}
add('one long among short', [...numbers(20), 123456789012345]);
add('six columns of one digit', numbers(7, () => 1));
add('mixed list', [1, 'two', 3, 'four', 5, 6, 7, 8]);
add('negative numbers', numbers(30, (i) => (i % 2 ? -i : i)));
add('special numbers', [NaN, Infinity, -Infinity, -0, 0, 1e21, 1e-7, 5]);
add('long texts in a list', numbers(10, (i) => `${i}${'y'.repeat(40)}`));
add('texts with newlines in a list', numbers(8, (i) => `${'y'.repeat(80)}\n${i}`));

// Nesting.
const stats = (i) => table(['count_90', i], ['mean_90', i * 1.5], ['upper_90', 99], ['sum_90', 1234.5],
  ['sum_squares_90', 99999], ['std', 0], ['upper', 1], ['lower', 0], ['count', 3], ['count_ps', 0.3],
  ['sum', 4], ['sum_squares', 6], ['mean', 1.33], ['median', 2]);
const flush = (count) => table(
  ['counters', keys(count, (i) => `c.${i}`, 2)],
  ['timers', table(...numbers(count, (i) => [`t.${i}`, numbers(i * 5)]))],
  ['gauges', keys(count, (i) => `gauge${i}`, 1.5)],
  ['timer_data', table(...numbers(count, (i) => [`t.${i}`, stats(i)]))],
  ['counter_rates', keys(count, (i) => `c.${i}`, 0.2)],
  ['sets', table(...numbers(count, (i) => [`s${i}`, numbers(i * 3, (j) => `m${j}`)]))],
  ['pctThreshold', [90]]);
for (const count of [0, 1, 3, 7]) {
  for (const [depth, colors] of [[2, false], [5, true], [5, false], [0, false], [1, true]]) {
    add(`flush of ${count}, depth ${depth}${colors ? ', coloured' : ''}`, flush(count), { depth, colors });
  }
}
add('histogram', table(['timer_data', table(['t', table(['count', 1],
  ['histogram', table(['bin_10', 1], ['bin_inf', 0])])])]));
add('histogram, depth 5', table(['timer_data', table(['t', table(['count', 1],
  ['histogram', table(['bin_10', 1], ['bin_inf', 0])])])]), { depth: 5 });
add('deep', table(['a', table(['b', table(['c', table(['d', table(['e', 1])])])])]), { depth: 10 });
add('deep first, shallow last', table(['a', table(['b', table(['c', table(['d', 1])])])], ['z', 1]),
  { depth: 10 });
add('shallow table behind a deep one', table(['a', table(['b', table(['c', table(['d', 1])])])],
  ['z', table(['y', 1])]), { depth: 10 });
add('lists in lists', [[1, [2, [3, [4]]]], [], [[]]], { depth: 10 });
add('lists of tables', numbers(8, (i) => table(['a', i])));
add('empty below the depth', table(['a', table(['b', table(['c', table()], ['d', []])])]));
add('beyond the depth', table(['a', table(['b', table(['c', table(['d', 1])], ['e', [1]])])]));
add('beyond the depth, coloured', table(['a', table(['b', table(['c', table(['d', 1])], ['e', [1]])])]),
  { colors: true });
add('coloured', table(['a', 1], ['b.c', 'text'], ['d', [1, 2]], ['e', numbers(120)]), { colors: true });
for (const length of [68, 72, 74, 76, 80]) {
  add(`coloured key of ${length}`, table(['k'.repeat(length), 1]), { colors: true });
}

const lines = cases.map((each) => JSON.stringify(each)).join(',\n');
process.stdout.write(`{"recorded_from": "node ${process.version}", "cases": [\n${lines}\n]}\n`);
