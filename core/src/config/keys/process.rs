//! Keys of what comes in, and of the process: listeners, console, spool, workers, log.
//!
//! Numbers and words are those of the readers: `tests/written.rs` holds names, defaults and examples
//! against them.

use super::Reload::{AtOnce, Restart};
use super::{Chapter, Key};

/// Listeners, their limits, and the admin console.
pub(super) const LINES: Chapter = Chapter {
    title: "Where lines come in",
    about: "",
    keys: &[
        Key {
            path: "port",
            absent: "",
            example: "",
            effect: "port of the one server, 1 to 65535; in TOML 0 takes any free one, which `--ready-file` tells",
            change: "who cannot use 8125",
            reload: Restart,
        },
        Key {
            path: "address",
            absent: "by the kind of file",
            example: "\"127.0.0.1\"",
            effect: "IP address or `localhost`. Absent: `0.0.0.0` with a `config.js`; in TOML and without a file `::` for both families, `0.0.0.0` where IPv6 is off. Of a TCP server: every address of both families",
            change: "who listens on one network alone",
            reload: Restart,
        },
        Key {
            path: "address_ipv6",
            absent: "false",
            example: "true",
            effect: "without `address`: true listens on `::`; decides what `localhost` is",
            change: "who has a `config.js` with it; else `address` says the same",
            reload: Restart,
        },
        Key {
            path: "server",
            absent: "`./servers/udp`",
            example: "\"tcp\"",
            effect: "`udp`, or `tcp` for lines over connections; a path to the reference's module means the same",
            change: "who sends over connections",
            reload: Restart,
        },
        Key {
            path: "socket",
            absent: "none",
            example: "\"/run/floe/statsd.sock\"",
            effect: "of a `tcp` server: path of a Unix socket, which goes before `port`. A socket that nobody answers at is taken over",
            change: "who sends from the same machine alone",
            reload: Restart,
        },
        Key {
            path: "socket_mod",
            absent: "what the umask leaves",
            example: "\"0770\"",
            effect: "permissions of that socket: octal digits in quotes, or a number as `fs.chmod` takes it. The reference crashes on it",
            change: "who sends as another user",
            reload: Restart,
        },
        Key {
            path: "servers",
            absent: "none",
            example: "[{ server = \"udp\", port = 8125 }, { server = \"tcp\", port = 8125 }]",
            effect: "list of tables with the keys above, at most 32 of each kind; the keys at the top then have no effect, and are named",
            change: "who needs more than one",
            reload: Restart,
        },
        Key {
            path: "streams.connections_max",
            absent: "",
            example: "",
            effect: "connections of all stream servers at once, 1 to 65536; a further one is closed and counted. Bounded by `ulimit -n` less 256",
            change: "who has more clients than that",
            reload: Restart,
        },
        Key {
            path: "streams.line_bytes_max",
            absent: "",
            example: "",
            effect: "longest unfinished line of a connection, 64 B to 65535 B; a longer one is dropped whole, and counted",
            change: "who wants less memory per connection",
            reload: Restart,
        },
        Key {
            path: "streams.idle",
            absent: "",
            example: "",
            effect: "a connection that is silent for so long is closed; `0ms` = never. Peers that are gone are found within two minutes by keep-alive",
            change: "who has clients that are silent for longer",
            reload: Restart,
        },
        Key {
            path: "mgmt_port",
            absent: "",
            example: "",
            effect: "the admin console; with a `config.js` 0 means the default, in TOML any free one",
            change: "who cannot use 8126",
            reload: Restart,
        },
        Key {
            path: "mgmt_address",
            absent: "",
            example: "",
            effect: "IP address, `localhost`, or `*` for every address of both families, which is the default with a `config.js`",
            change: "who asks from other machines; the console has no password",
            reload: Restart,
        },
    ],
};

/// `spool`.
pub(super) const SPOOL: Chapter = Chapter {
    title: "The spool",
    about: "",
    keys: &[
        Key {
            path: "spool.path",
            absent: "the first that can be written",
            example: "\"/var/lib/floe\"",
            effect: "directory; a relative one counts from where the daemon is started. Absent: the first of `$STATE_DIRECTORY`, `/var/lib/floe`, `$XDG_STATE_HOME/floe` or `~/.local/state/floe` that can be written",
            change: "who has a disk for it",
            reload: Restart,
        },
        Key {
            path: "spool.archive_age",
            absent: "",
            example: "",
            effect: "oldest segment of the archive",
            change: "who queries further back",
            reload: AtOnce,
        },
        Key {
            path: "spool.archive_bytes",
            absent: "",
            example: "",
            effect: "most bytes of the archive, to 1 PiB",
            change: "who has less disk, or queries further back",
            reload: AtOnce,
        },
    ],
};

/// `ingest`.
pub(super) const WORKERS: Chapter = Chapter {
    title: "Workers",
    about: "For those who measure: the defaults suit a machine that floe has for itself.",
    keys: &[
        Key {
            path: "ingest",
            absent: "`auto`",
            example: "\"recvmmsg\"",
            effect: "a word, or a table with the keys below",
            change: "nobody without a measurement",
            reload: Restart,
        },
        Key {
            path: "ingest.mode",
            absent: "",
            example: "",
            effect: "`auto`: io_uring, and `recvmmsg` where it is refused; `io_uring`: or fail; `recvmmsg`",
            change: "who must know which path is used",
            reload: Restart,
        },
        Key {
            path: "ingest.workers",
            absent: "one per CPU, at most 8",
            example: "4",
            effect: "1 to 64; with `cpus` as many as the list has. Also at the top",
            change: "who shares the machine",
            reload: Restart,
        },
        Key {
            path: "ingest.cpus",
            absent: "those inherited",
            example: "\"0-3\"",
            effect: "`[0, 1]` or `\"0-3,5\"`: what workers are pinned to, in their order; more workers than CPUs share them in turn. Also at the top",
            change: "who keeps CPUs for floe",
            reload: Restart,
        },
        Key {
            path: "ingest.receive_buffer",
            absent: "`8MiB`",
            example: "\"16MiB\"",
            effect: "asked of the kernel per socket, 4 KiB to 1 GiB; it grants at most `net.core.rmem_max`",
            change: "who sees kernel drops in the books",
            reload: Restart,
        },
        Key {
            path: "ingest.steering",
            absent: "",
            example: "",
            effect: "which worker gets a datagram: `hash` keeps each sender at one; `random` shares one heavy sender out, and its gauges lose their order; `cpu` takes the CPU that received it, modulo the workers",
            change: "who has one sender that a worker cannot carry (`random`), or network card queues bound to the workers' CPUs (`cpu`)",
            reload: Restart,
        },
        Key {
            path: "ingest.udp_gro",
            absent: "",
            example: "",
            effect: "true lets the kernel hand over several datagrams of one sender as one; they are counted and read one by one",
            change: "who has senders with `UDP_SEGMENT`, or a network card that coalesces; others pay a tenth more per datagram",
            reload: Restart,
        },
    ],
};

/// Log, title, health, reload.
pub(super) const PROCESS: Chapter = Chapter {
    title: "The process",
    about: "",
    keys: &[
        Key {
            path: "books",
            absent: "",
            example: "",
            effect: "floe's own books as points, and at the end of the console's `stats`, see [protocol.md](protocol.md). False with a `config.js` that does not ask for them",
            change: "who pays per series",
            reload: AtOnce,
        },
        Key {
            path: "log.backend",
            absent: "",
            example: "",
            effect: "`stdout` (with a `config.js` the default), `stderr` (where that is the journal, the journal), `syslog`, `journald`",
            change: "who collects logs in another place",
            reload: AtOnce,
        },
        Key {
            path: "log.application",
            absent: "",
            example: "",
            effect: "name in syslog and journal, at most 48 printable characters without blanks and colons; in a `config.js` others are replaced, with a warning",
            change: "who runs several daemons",
            reload: AtOnce,
        },
        Key {
            path: "log.level",
            absent: "",
            example: "",
            effect: "least important level that is logged: `error`, `warn`, `info`, `debug`, or syslog's `LOG_ERR`, `LOG_WARNING`, `LOG_INFO`, `LOG_DEBUG` and the others. `RUST_LOG` wins. Another word is an error, in a `config.js` a warning. To the reference it is a level for lines without one",
            change: "who wants fewer lines, or looks for a cause",
            reload: AtOnce,
        },
        Key {
            path: "log.format",
            absent: "",
            example: "",
            effect: "`text`, or `json`: an object per line. Not known to the reference, which does not mind",
            change: "who feeds logs to a program",
            reload: AtOnce,
        },
        Key {
            path: "debug",
            absent: "",
            example: "",
            effect: "the log at level `debug`",
            change: "who looks for a cause",
            reload: AtOnce,
        },
        Key {
            path: "dumpMessages",
            absent: "",
            example: "",
            effect: "every line received is logged, escaped; what the log is too slow for is left out, and its number told",
            change: "who looks for a sender; not for ever",
            reload: AtOnce,
        },
        Key {
            path: "title",
            absent: "",
            example: "",
            effect: "what process listings show: a text, as far as the command line has room; false: nothing is changed; true: `statsd` and the arguments, which is the default with a `config.js`",
            change: "who tells processes apart by it",
            reload: AtOnce,
        },
        Key {
            path: "healthStatus",
            absent: "",
            example: "",
            effect: "what the console answers to `health` until it is told otherwise: `up` or `down`. A reload changes it only where the file has changed it. The reference ignores it",
            change: "who takes a machine into service by hand",
            reload: AtOnce,
        },
        Key {
            path: "automaticConfigReload",
            absent: "",
            example: "",
            effect: "whether a changed file is read again by itself; SIGHUP reads it in any case",
            change: "who changes the file in steps",
            reload: AtOnce,
        },
    ],
};
