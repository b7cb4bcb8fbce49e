//! What a call sends, prepared so that a call fills in only what differs.

use http::Method;

use crate::cli::load::chance::Chance;
use crate::cli::load::template::{Template, Values};

/// A request.
#[derive(Debug)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Its path and query.
    pub path: Template,
    /// Its fields, beside `host` and `content-length`.
    pub fields: Vec<(String, Template)>,
    /// Its body.
    pub body: Option<Template>,
    /// All of the HTTP/1.1 head up to the value of `content-length`, or to its end if there is no body.
    head: Template,
}

impl Request {
    /// Puts a request together. Names are lowercase and valid.
    pub fn new(method: Method, path: Template, fields: Vec<(String, Template)>, body: Option<Template>) -> Self {
        let mut head = Template::default();
        head.push_text(method.as_str());
        head.push_text(" ");
        head.push(&path);
        head.push_text(" HTTP/1.1\r\nhost: ");
        head.push_authority();
        head.push_text("\r\n");
        for (name, value) in &fields {
            head.push_text(name);
            head.push_text(": ");
            head.push(value);
            head.push_text("\r\n");
        }
        match &body {
            None => head.push_text("\r\n"),
            Some(body) => match body.constant() {
                // Nothing differs in the body, so its length is known now.
                Some(text) => head.push_text(&format!("content-length: {}\r\n\r\n{text}", text.len())),
                None => head.push_text("content-length: "),
            },
        }
        Self { method, path, fields, body, head }
    }

    /// Appends the request as HTTP/1.1 writes it.
    pub fn render_http1(&self, values: &Values<'_>, chance: &mut Chance, out: &mut Vec<u8>, body: &mut Vec<u8>) {
        self.head.render(values, chance, out);
        let Some(template) = self.body.as_ref().filter(|body| body.constant().is_none()) else { return };
        body.clear();
        template.render(values, chance, body);
        // Writing to a vector cannot fail.
        _ = std::io::Write::write_fmt(out, format_args!("{}\r\n\r\n", body.len()));
        out.extend_from_slice(body);
    }
}
