//! Recorded situations: what is done to a daemon, and what was seen.
//!
//! `golden/situations.json` holds them in full. The older files `console.json` and `transport.json`
//! hold cases of a simpler form, which are turned into situations here, so that one player plays
//! them all.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The file of recorded situations.
#[derive(Deserialize, Serialize)]
pub(crate) struct File {
    pub(crate) format: u32,
    pub(crate) kind: String,
    pub(crate) recorded_from: String,
    pub(crate) situations: Vec<Situation>,
}

/// One situation.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Situation {
    pub(crate) name: String,
    pub(crate) about: String,
    /// Keys of the `config.js` over those that every situation has; `$ABSENT` takes one away.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) config: Map<String, Value>,
    /// The whole file instead, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
    /// A second daemon behind the first one, with `$PORT2` and `$CARBON2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) behind: Option<Map<String, Value>>,
    /// Ports that are another's: `udp:$PORT`, `tcp:$MGMT`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) taken: Vec<String>,
    /// A socket that nobody answers at any more lies at `$SOCKET`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) stale_socket: bool,
    /// The daemon ends before it listens.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) ends_at_start: bool,
    pub(crate) play: Vec<Act>,
}

/// One thing done, or looked at; what is looked at has `seen`.
#[derive(Clone, Deserialize, Serialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Act {
    /// Sends to the daemon.
    Send {
        /// `udp` (default), `udp2`, `udp6`, `tcp`, `tcp2`, `unix`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        via: Option<String>,
        /// A text each, or its bytes in hexadecimal behind `hex:`.
        data: Vec<String>,
        /// Which connection.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        conn: Option<u32>,
        /// Closes the connection behind it.
        #[serde(default, skip_serializing_if = "is_false")]
        close: bool,
        /// Resets the connection behind it.
        #[serde(default, skip_serializing_if = "is_false")]
        reset: bool,
    },
    /// Lets time pass, so that what follows does not overtake.
    Pause { ms: u64 },
    /// Waits for the next flush.
    Flush {
        /// `behind`, or the first daemon.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<Flush>,
    },
    /// Asks the console.
    Ask {
        text: String,
        /// On a connection of its own, not the one kept.
        #[serde(default, skip_serializing_if = "is_false")]
        anew: bool,
        /// How the reply is compared: `exact` (default), `template` with `<int>`, `lines` (those
        /// occur).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        compare: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<Reply>,
    },
    /// Writes the configuration again, and waits until the daemon has noticed.
    Rewrite {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        config: Option<Map<String, Value>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
    /// Sends a signal.
    Signal { name: String },
    /// Waits for the end of the daemon.
    Exit {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<Exit>,
    },
    /// Reads a file below the daemon's folder, once it holds `rows` rows.
    Rows {
        file: String,
        rows: usize,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<Vec<String>>,
    },
    /// What came to the sink at `$SINK` (`udp`, `udp6` or `tcp`, given by the situation's config).
    Sink {
        kind: String,
        count: usize,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<Vec<String>>,
    },
    /// The flush of the console backend that holds `with`, date removed.
    Print {
        with: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<Vec<String>>,
    },
    /// The process as others see it: `cmdline`.
    Title {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<String>,
    },
}

/// The lines of a flush, without their times.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub(crate) struct Flush {
    pub(crate) lines: Vec<String>,
    /// Names whose values depend on the clock.
    pub(crate) names: Vec<String>,
}

/// A reply of the console.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct Reply {
    pub(crate) text: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) closes: bool,
}

/// How a daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Exit {
    Well,
    Failed,
    Signalled,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn golden(name: &str) -> String {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
    std::fs::read_to_string(folder.join(name)).expect("the golden files are in the repository")
}

/// The recorded situations.
pub(crate) fn recorded() -> File {
    serde_json::from_str(&golden("situations.json"))
        .unwrap_or_else(|error| panic!("situations.json is not as expected: {error}"))
}

/// The cases of `console.json` and `transport.json`.
pub(crate) fn converted() -> Vec<Situation> {
    ["console.json", "transport.json"]
        .iter()
        .flat_map(|name| {
            let file: Value = serde_json::from_str(&golden(name)).expect("the file is JSON");
            file["cases"]
                .as_array()
                .expect("it holds cases")
                .iter()
                .map(convert)
                .collect::<Vec<_>>()
        })
        .collect()
}

fn text_of(value: &Value, key: &str) -> Option<String> {
    value[key].as_str().map(str::to_owned)
}

fn texts_of(value: &Value) -> Vec<String> {
    let members = value.as_array().map(Vec::as_slice).unwrap_or_default();
    members.iter().map(|text| text.as_str().expect("a list of texts").to_owned()).collect()
}

fn convert(case: &Value) -> Situation {
    let mut play = Vec::new();
    if case["first_flush"] != false {
        play.push(Act::Flush { of: None, seen: None });
    }
    let only = [case.clone()];
    let steps = case["steps"].as_array().map_or(&only[..], Vec::as_slice);
    for step in steps {
        let sent = step["datagrams"].as_array().map(Vec::as_slice).unwrap_or_default();
        play.extend(sent.iter().map(|datagram| convert_send(datagram, case)));
        let commands = step["commands"].as_array().map(Vec::as_slice).unwrap_or_default();
        play.extend(commands.iter().map(convert_command));
        if step["expect_lines"].is_array() {
            let lines = texts_of(&step["expect_lines"]);
            let names = texts_of(&step["expect_names_only"]);
            play.push(Act::Flush { of: None, seen: Some(Flush { lines, names }) });
        }
        if let Some(kind) = text_of(case, "sink") {
            let seen = texts_of(&case["expect_sink_hex"]);
            play.push(Act::Sink { kind, count: seen.len(), seen: Some(seen) });
        }
    }
    let mut config = case["config"].as_object().cloned().unwrap_or_default();
    if case["carbon"] == "pickle" {
        config.insert("graphiteProtocol".to_owned(), "pickle".into());
    }
    Situation {
        name: text_of(case, "name").expect("a case has a name"),
        about: text_of(case, "about").unwrap_or_default(),
        config,
        text: None,
        behind: None,
        taken: Vec::new(),
        stale_socket: false,
        ends_at_start: false,
        play,
    }
}

fn convert_send(datagram: &Value, case: &Value) -> Act {
    let via = text_of(datagram, "via").or_else(|| text_of(case, "transport"));
    let data = match (datagram.as_str(), text_of(datagram, "hex")) {
        (Some(text), _) => text.to_owned(),
        (None, Some(hex)) => format!("hex:{hex}"),
        (None, None) => text_of(datagram, "data").unwrap_or_default(),
    };
    let conn = datagram["conn"].as_u64().and_then(|conn| conn.try_into().ok());
    Act::Send { via, data: vec![data], conn, close: datagram["close"] == true, reset: false }
}

fn convert_command(command: &Value) -> Act {
    let compare = text_of(command, "compare").filter(|compare| compare != "inspect");
    let text = text_of(command, "reply").unwrap_or_default();
    Act::Ask {
        text: text_of(command, "send").unwrap_or_default(),
        anew: command["new_connection"] == true,
        compare,
        seen: Some(Reply { text, closes: command["closes"] == true }),
    }
}
