//! Parts of HTML pages that need nothing else: no script, no font, no image from anywhere.

pub mod chart;

use std::fmt::Write;

const STYLE: &str = include_str!("style.css");

/// A page with this title, which is its heading too, and these parts.
pub fn whole(title: &str, parts: &str) -> String {
    let title = escaped(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{title}</title><style>{STYLE}</style></head>\
         <body><main><h1>{title}</h1>{parts}</main></body></html>\n"
    )
}

/// Text as text, whatever it holds.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            _ => safe.push(letter),
        }
    }
    safe
}

/// Adds a chart with its title.
pub fn figure(page: &mut String, title: &str, inner: &str) {
    // Writing to a string cannot fail.
    _ = write!(page, "<figure><figcaption>{title}</figcaption>{inner}</figure>");
}

/// One number in large, with a class: `bad` stands out.
pub fn tile(name: &str, value: impl std::fmt::Display, class: &str) -> String {
    format!("<div class=\"tile {class}\"><dt>{name}</dt><dd>{value}</dd></div>")
}

/// Several of them.
pub fn tiles(tiles: &[String]) -> String {
    format!("<dl class=\"tiles\">{}</dl>", tiles.concat())
}

/// A table of cells that are HTML already.
pub fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let cells = |tag: &str, cells: &[String]| {
        let cells: String = cells.iter().map(|cell| format!("<{tag}>{cell}</{tag}>")).collect();
        format!("<tr>{cells}</tr>")
    };
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let body: String = rows.map(|row| cells("td", &row)).collect();
    format!("<div class=\"wide\"><table><thead>{}</thead><tbody>{body}</tbody></table></div>", cells("th", &head))
}

/// A mark in milliseconds.
pub fn axis_time(ms: f64) -> String {
    match ms {
        0.0 => "0".into(),
        ms if ms < 1.0 => format!("{:.0} µs", ms * 1e3),
        ms if ms < 1e3 => format!("{ms} ms"),
        ms => format!("{} s", ms / 1e3),
    }
}
