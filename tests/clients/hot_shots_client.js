// Sends the shared workload with the npm client: HOST PORT PREFIX.
'use strict';
const StatsD = require('hot-shots');

const [host, port, prefix] = process.argv.slice(2);
const client = new StatsD({
  host,
  port: Number(port),
  prefix: prefix + '.',
  maxBufferSize: 512,
  errorHandler: (error) => { throw error; },
});
for (let i = 0; i < 10; i += 1) client.increment('hits');
client.increment('hits', 9);
client.decrement('hits', 2);
client.gauge('level', 40);
client.gaugeDelta('level', 2);
for (const ms of [10, 20, 30]) client.timing('latency', ms);
for (const user of ['ann', 'bob', 'cy']) client.set('users', user);
client.close((error) => { if (error) throw error; });
