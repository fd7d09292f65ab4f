// Sends the shared workload with the npm client statsd-client: HOST PORT PREFIX.
'use strict';
const StatsdClient = require('statsd-client');

const [host, port, prefix] = process.argv.slice(2);
const client = new StatsdClient({ host, port: Number(port), prefix });
for (let i = 0; i < 10; i += 1) client.increment('hits');
client.increment('hits', 9);
client.decrement('hits', 2);
client.gauge('level', 40);
client.gaugeDelta('level', 2);
for (const ms of [10, 20, 30]) client.timing('latency', ms);
for (const user of ['ann', 'bob', 'cy']) client.set('users', user);
// Sent when the next turn of the loop comes; the socket must outlive it.
setTimeout(() => client.close(), 200);
