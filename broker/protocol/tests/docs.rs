//! `docs/protocol.md` is what others write clients from: what a program can check
//! of it is checked here.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[allow(dead_code, reason = "shared by several test binaries")]
mod common;

use weir_protocol::{ErrorCode, Op};

fn text() -> String {
    std::fs::read_to_string(common::folder().join("../../docs/protocol.md")).unwrap()
}

#[test]
fn examples_are_golden_frames() {
    let text = text();
    let goldens = common::goldens();
    let blocks: Vec<_> = text.split("```hex\n").skip(1).collect();
    assert!(blocks.len() >= 6);
    for block in blocks {
        let block = block.split("```").next().unwrap();
        let (title, lines) = block.split_once('\n').unwrap();
        let name = title.trim_start_matches("# tests/wire/").trim_end_matches(".hex");
        // The bytes of a line end where two blanks begin.
        let hex: String = lines.lines().map(|line| line.split("  ").next().unwrap()).collect();
        let golden = goldens.iter().find(|golden| golden.name == name).expect(name);
        let digits = common::to_hex(&common::from_hex(&hex));
        assert_eq!(digits, common::to_hex(&golden.bytes), "{name}");
    }
}

#[test]
fn every_operation_has_a_row_and_a_section() {
    let text = text();
    for op in Op::ALL {
        let (name, number) = (op.name(), op as u8);
        let row = format!("| [{name}](#{name}) | {number} | `[{number}, ");
        assert!(text.contains(&row), "no row {row}");
        assert!(text.contains(&format!("\n### {name}\n")), "no section for {name}");
    }
}

#[test]
fn every_code_has_a_row_and_a_hint() {
    let text = text();
    for code in ErrorCode::ALL {
        assert!(text.contains(&format!("\n| `{code}` | ")), "no row for {code}");
        assert!(!code.hint().is_empty(), "no hint for {code}");
        assert_eq!(ErrorCode::of(code.text()), *code);
    }
}
