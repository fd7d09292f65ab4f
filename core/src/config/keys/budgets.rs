//! Keys of how much is held, and of what is told of who sends it.

use super::Reload::Restart;
use super::{Chapter, Key};

/// `series` and `memory`.
pub(super) const BUDGETS: Chapter = Chapter {
    title: "How much is held",
    about: "Nothing that arrives makes floe hold more than the memory ceiling, which these keys and the number of workers decide; `floe check FILE` and the start print it with its parts. What a key leaves open is fitted to the memory limit: halved together until the ceiling is below it ([operations/memory_grows.md](operations/memory_grows.md)). Beyond a budget of names the values of a new counter, timer or set go to `<prefix>.__overflow__`, those of a new gauge are dropped; what exists goes on ([operations/a_name_explodes.md](operations/a_name_explodes.md)).",
    keys: &[
        Key {
            path: "series.max",
            absent: "`1048576`, or what the memory limit allows",
            example: "100000",
            effect: "series of all kinds, over all workers, 1 to 4194304; and 96 bytes of names for each of them",
            change: "who has more, or less memory",
            reload: Restart,
        },
        Key {
            path: "series.prefix_max",
            absent: "none",
            example: "10000",
            effect: "series below each first component of a name that no `series.prefixes` fits; up to 16384 components are counted",
            change: "who has many teams on one daemon",
            reload: Restart,
        },
        Key {
            path: "series.prefixes",
            absent: "none",
            example: "[{ prefix = \"app.*\", max = 1000 }]",
            effect: "list of tables: `prefix`, components with `*` for any text within one, and `max`, series below each prefix that fits, so that `app.*` gives each application a budget of its own. The first that fits counts, at most 256",
            change: "who knows which names may explode",
            reload: Restart,
        },
        Key {
            path: "memory.limit",
            absent: "that of the cgroup",
            example: "\"2GiB\"",
            effect: "what the ceiling must not exceed; of several cgroup limits, version 1 or 2, the lowest",
            change: "who has no cgroup, or shares one",
            reload: Restart,
        },
        Key {
            path: "memory.over_limit",
            absent: "",
            example: "",
            effect: "`refuse`: a ceiling beyond the limit ends the start with code 2; `warn`: it is said, and the kernel may end the daemon under an attack",
            change: "who knows that it will not come to it",
            reload: Restart,
        },
        Key {
            path: "memory.timer_bytes_max",
            absent: "`512MiB`, or what the memory limit allows",
            example: "\"256MiB\"",
            effect: "values of timers and operations of gauges, over all workers and generations, from 1 MiB; beyond it timers go on in sketches (`timers_sketched`), and beyond those values are dropped (`values_dropped.timer_limit`)",
            change: "who has many timer values, or less memory",
            reload: Restart,
        },
        Key {
            path: "memory.set_bytes_max",
            absent: "`256MiB`, or what the memory limit allows",
            example: "\"64MiB\"",
            effect: "members of sets, likewise: beyond it sets go on as estimates (`sets_estimated`), and beyond those members are dropped (`values_dropped.set_limit`)",
            change: "who has many large sets, or less memory",
            reload: Restart,
        },
        Key {
            path: "top.senders",
            absent: "",
            example: "",
            effect: "addresses of senders in `floe top`: `off`; `sampled`: from one batch of datagrams in 64, twenty a second of a worker at the most; `all`: from every datagram, which are then received by `recvmmsg`",
            change: "who may not look at addresses (`off`), or looks for a quiet sender (`all`, not for ever)",
            reload: Restart,
        },
        Key {
            path: "top.examples",
            absent: "",
            example: "",
            effect: "whether `floe top` keeps an example of the bad lines of each name and sender",
            change: "who may have personal data in lines",
            reload: Restart,
        },
    ],
};
