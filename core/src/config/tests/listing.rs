//! The listing of `floe check`: complete, readable, stable.

use super::*;

#[test]
fn the_listing_of_no_configuration() {
    let expected = "\
listen                    udp [::]:8125, IPv4 alone where IPv6 is off
console                   127.0.0.1, port 8126
flushInterval             10000 ms
percentThreshold          90 (90)
histogram                 none
calculatedTimerMetrics    all
prefixStats               \"statsd\"
keyNameSanitize           true
deleteCounters            false
deleteTimers              false
deleteSets                false
deleteGauges              false
gaugesMaxTTL              1 flushes
graphite                  legacy names, no suffix, flush_counts true
backends                  none, intervals are kept in the archive only
keyFlush                  off
spool                     chosen at start
  archive                 6h, 1GiB
  reserve                 5 % of the disk, at most 256MiB
  memory                  256MiB, or what the memory limit leaves
ingest                    auto
  workers                 one per CPU, at most 8
  cpus                    those inherited
  receive_buffer          default
  steering                hash
  udp_gro                 false
series                    as the memory limit allows
memory of timers          as the memory limit allows
memory of sets            as the memory limit allows
memory limit              that of the cgroup, beyond it refuse
top                       senders sampled, with examples
books                     true
debug                     false
dumpMessages              false
log                       stderr, info, text, as statsd
title                     as started
healthStatus              up
automaticConfigReload     true
";
    assert_eq!(describe(&without_file().settings), expected);
}

#[test]
fn the_listing_names_every_given_value() {
    let loaded = toml(
        "port = 0
        address = \"127.0.0.1\"
        percentThreshold = [-12.5]
        calculatedTimerMetrics = [\"mean\", \"count\"]
        histogram = [{ metric = \"\", bins = [10, \"inf\"] }]
        [graphite]
        legacyNamespace = false
        globalSuffix = \"x\"
        [spool]
        path = \"/s\"
        archive_age = \"90m\"
        [ingest]
        mode = \"recvmmsg\"
        workers = 2
        cpus = [1, 0]
        receive_buffer = \"1MiB\"
        steering = \"random\"
        udp_gro = true
        [[backends]]
        name = \"b\"
        address = \"h:1\"
        protocol = \"pickle\"
        ack = \"written\"",
    );
    let listing = describe(&loaded.settings);
    for line in [
        "listen                    udp 127.0.0.1:0 (any free one)",
        "percentThreshold          -12.5 (top12_5)",
        "calculatedTimerMetrics    mean, count",
        "histogram                 every key: bin_10 < 10, bin_inf < inf",
        "graphite                  new names, prefixes \"stats\", counters \"counters\", timers \
         \"timers\", gauges \"gauges\", sets \"sets\", suffix \"x\", flush_counts true",
        "backend b                 h:1, pickle, ack written",
        "  backlog                 6h, 8GiB, oldest first",
        "  redelivery              sent again until acknowledged",
        "  stall                   30s",
        "spool                     /s",
        "  archive                 90m, 1GiB",
        "ingest                    recvmmsg",
        "  workers                 2",
        "  cpus                    1, 0",
        "  receive_buffer          1MiB",
        "  steering                random",
        "  udp_gro                 true",
    ] {
        assert!(listing.lines().any(|listed| listed == line), "{line}\n{listing}");
    }
}
