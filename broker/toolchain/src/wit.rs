//! The policy contract, as text.

/// The files of `wit/`: name and content.
pub const WIT: [(&str, &str); 5] = [
    ("types.wit", include_str!("../../../wit/types.wit")),
    ("lifecycle.wit", include_str!("../../../wit/lifecycle.wit")),
    ("roles.wit", include_str!("../../../wit/roles.wit")),
    ("host.wit", include_str!("../../../wit/host.wit")),
    ("worlds.wit", include_str!("../../../wit/worlds.wit")),
];

/// All of it as one file, which names its package once.
pub(crate) fn whole_wit() -> String {
    let mut whole = String::new();
    for (_, text) in WIT {
        for line in text.lines() {
            if !(line.starts_with("package ") && whole.contains(line)) {
                whole.push_str(line);
                whole.push('\n');
            }
        }
    }
    whole
}
