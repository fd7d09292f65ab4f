"""Sends the shared workload with Datadog's DogStatsD client: HOST PORT PREFIX."""
import sys

from datadog.dogstatsd import DogStatsd

host, port, prefix = sys.argv[1], int(sys.argv[2]), sys.argv[3]
client = DogStatsd(host=host, port=port, namespace=prefix, disable_telemetry=True,
                   disable_buffering=False)
for _ in range(10):
    client.increment("hits")
client.increment("hits", 9)
client.decrement("hits", 2)
client.gauge("level", 40)
client.gauge("level", 42)
for ms in (10, 20, 30):
    client.timing("latency", ms)
for user in ("ann", "bob", "cy"):
    client.set("users", user)
# Types that only DogStatsD has count as counters here, and tags become those of Graphite.
client.histogram("sizes", 5, tags=["env:test"])
client.flush()
client.close_socket()
