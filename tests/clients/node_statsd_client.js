// Sends the shared workload with the npm client node-statsd: HOST PORT PREFIX.
'use strict';
const StatsD = require('node-statsd');

const [host, port, prefix] = process.argv.slice(2);
const client = new StatsD({ host, port: Number(port), prefix: prefix + '.' });
let open = 0;
const sent = (error) => {
  if (error) throw error;
  open -= 1;
  if (open === 0) client.close();
};
const send = (method, stat, value) => {
  open += 1;
  client[method](stat, value, 1, [], sent);
};
for (let i = 0; i < 10; i += 1) send('increment', 'hits', 1);
send('increment', 'hits', 9);
send('decrement', 'hits', 2);
send('gauge', 'level', 42);
for (const ms of [10, 20, 30]) send('timing', 'latency', ms);
for (const user of ['ann', 'bob', 'cy']) send('set', 'users', user);
