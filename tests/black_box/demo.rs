//! `sessiongate demo`: the first thing a newcomer sees.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::harness::{PATIENCE, binary, finish};

#[test]
fn the_walk_shows_the_whole_flow_and_the_refusals_and_ends_with_code_0() {
    let done = finish(binary().args(["demo", "--walk"]));
    assert_eq!(done.code, Some(0), "{} {}", done.stdout, done.stderr);
    let shown = format!("{}{}", done.stdout, done.stderr);
    for part in ["POST /session", "201", "eligibility", "offer", "configure", "order", "installation", "200"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let refusals = ["401", "403", "404", "400"];
    assert!(refusals.iter().all(|status| shown.contains(status)), "{shown}");
    assert!(!shown.contains('\u{1b}'), "no colors where nobody sees them: {shown}");
    assert!(!shown.contains("\"level\""), "no log lines between the calls: {shown}");
}

#[test]
fn the_demo_prints_lines_that_work_when_they_are_pasted() {
    let mut demo =
        binary().arg("demo").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary starts");
    let output = BufReader::new(demo.stdout.take().expect("stdout is piped"));
    let (send, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || output.lines().map_while(Result::ok).for_each(|line| _ = send.send(line)));

    let mut text = String::new();
    let mut codes = Vec::new();
    let mut script = String::new();
    // The first line that opens a session, with all lines it is continued on.
    let pasted = loop {
        let Ok(line) = lines.recv_timeout(PATIENCE) else { break None };
        text.push_str(&line);
        text.push('\n');
        let line = line.trim();
        if script.is_empty() && !line.starts_with("curl") && !line.contains("=$(curl") && !line.contains("TOKEN=") {
            continue;
        }
        script.push_str(line);
        script.push('\n');
        if !line.ends_with('\\') && script.contains("/session") {
            break Some(script.clone());
        }
    };
    if let Some(script) = pasted {
        let script = format!("set -e\n{script}");
        let run = std::process::Command::new("bash").arg("-c").arg(&script).output().expect("bash");
        codes.push(run.status.code());
        text.push_str(&String::from_utf8_lossy(&run.stdout));
        text.push_str(&String::from_utf8_lossy(&run.stderr));
    }
    let _ = demo.kill();
    let _ = demo.wait();
    assert_eq!(codes, [Some(0)], "{text}");
}
