"""Sends the shared workload with the PyPI client: HOST PORT PREFIX."""
import sys

import statsd

host, port, prefix = sys.argv[1], int(sys.argv[2]), sys.argv[3]
client = statsd.StatsClient(host, port, prefix=prefix)
for _ in range(10):
    client.incr("hits")
client.incr("hits", 5)
client.gauge("level", 40)
client.gauge("level", 2, delta=True)
client.timing("latency", 10)
for user in ("ann", "bob", "cy"):
    client.set("users", user)
with client.pipeline() as pipeline:
    pipeline.incr("hits", 3)
    pipeline.decr("hits")
    pipeline.timing("latency", 20)
    pipeline.timing("latency", 30)
