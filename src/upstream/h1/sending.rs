//! The request on its way: head, body, framing (RFC 9112 sections 6 and 7).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Method;
use http_body::{Body, Frame};

use super::wire::{Output, Wire};
use crate::upstream::fields::{Fields, Lines, is_forbidden_trailer};
use crate::upstream::upload::{Upload, UploadFault};

/// How the body of a request is delimited, and how much of it is still to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// Nothing is left.
    Done,
    /// So many bytes are left.
    Length(u64),
    /// Chunks, until the last one.
    Chunked,
}

/// What is still to be sent of a request.
#[derive(Debug)]
pub(super) struct Sending {
    /// The request has no body; of one whose body has gone there is no `upload` left either.
    bodyless: bool,
    upload: Upload,
    framing: Framing,
}

/// Why a request cannot be sent on.
#[derive(Debug)]
pub(super) enum SendFault {
    /// The connection does not take it.
    Connection(io::Error),
    /// The client does not deliver it.
    Upload(UploadFault),
}

impl From<io::Error> for SendFault {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

impl Sending {
    /// Ends the head in `output` with the fields that frame the body. A request has one framing field or none, and it is
    /// always ours.
    pub(super) fn begin(method: &Method, upload: Upload, output: &mut Output) -> Self {
        let bodyless = upload.is_empty();
        let length = upload.size_hint().exact();
        let head = &mut output.front;
        let framing = match (&upload, length) {
            (Upload::Empty, _) => {
                // A method that usually has a body says that there is none (RFC 9110 section 8.6).
                if matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
                    head.extend_from_slice(b"content-length: 0\r\n");
                }
                Framing::Done
            }
            (Upload::Stream(_), Some(length)) => {
                head.extend_from_slice(b"content-length: ");
                decimal(length, head);
                head.extend_from_slice(b"\r\n");
                if length == 0 { Framing::Done } else { Framing::Length(length) }
            }
            (Upload::Stream(_), None) => {
                head.extend_from_slice(b"transfer-encoding: chunked\r\n");
                Framing::Chunked
            }
        };
        head.extend_from_slice(b"\r\n");
        Self { bodyless, upload, framing }
    }

    /// Sends as much as there is and as the upstream takes; ready when all of it has gone. At most one piece of the body
    /// is held here, so that the upstream's pace becomes the client's.
    pub(super) fn poll(&mut self, wire: &mut Wire, context: &mut Context<'_>) -> Poll<Result<(), SendFault>> {
        loop {
            if self.framing != Framing::Done && wire.output.takes_data() {
                match Pin::new(&mut self.upload).poll_frame(context) {
                    Poll::Pending => {
                        ready!(wire.poll_flush(context))?;
                        return Poll::Pending;
                    }
                    Poll::Ready(None) => self.end(&mut wire.output)?,
                    Poll::Ready(Some(frame)) => {
                        self.stage(frame.map_err(SendFault::Upload)?, &mut wire.output)?;
                    }
                }
            }
            ready!(wire.poll_flush(context))?;
            if self.framing == Framing::Done {
                // The answer may take long; what the body holds is not needed for it.
                if self.upload.is_end_stream() {
                    self.upload = Upload::Empty;
                }
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Whether all of the request has gone.
    pub(super) fn is_done(&self, output: &Output) -> bool {
        self.framing == Framing::Done && output.is_empty()
    }

    /// The body, if nothing of the request has gone. A piece that was taken already is put back: there cannot be two.
    pub(super) fn take_back(mut self, output: &mut Output) -> Option<Upload> {
        output.is_untouched().then(|| {
            self.upload.put_back(std::mem::take(&mut output.data));
            self.upload
        })
    }

    /// The body, if no piece of it was taken yet.
    pub(super) fn intact(self) -> Option<Upload> {
        let untaken = |upload: &Upload| upload.progress().is_some_and(|progress| progress.bytes() == 0);
        let begun = self.framing == Framing::Done || !untaken(&self.upload);
        (self.bodyless || !begun).then_some(self.upload)
    }

    fn stage(&mut self, frame: Frame<Bytes>, output: &mut Output) -> Result<(), SendFault> {
        match (frame.into_data(), self.framing) {
            (_, Framing::Done) => {}
            (Ok(data), Framing::Length(left)) => {
                // More than was announced would be taken for the next request.
                let left = left.checked_sub(data.len() as u64).ok_or(SendFault::Upload(UploadFault::Malformed))?;
                self.framing = if left == 0 { Framing::Done } else { Framing::Length(left) };
                output.data = data;
            }
            (Ok(data), Framing::Chunked) => {
                let last = self.upload.is_end_stream();
                if data.is_empty() {
                    // An empty chunk would be the last one.
                    return if last { self.end(output) } else { Ok(()) };
                }
                hexadecimal(data.len() as u64, &mut output.front);
                output.front.extend_from_slice(b"\r\n");
                output.data = data;
                output.back = if last { b"\r\n0\r\n\r\n" } else { b"\r\n" };
                if last {
                    self.framing = Framing::Done;
                }
            }
            // There is no room for trailers behind a body that ends with its length.
            (Err(_), Framing::Length(_)) => {}
            (Err(frame), Framing::Chunked) => {
                let front = &mut output.front;
                front.extend_from_slice(b"0\r\n");
                for (name, value) in frame.into_trailers().iter().flatten() {
                    if !is_forbidden_trailer(name) {
                        Lines(front).field(name, value.as_bytes());
                    }
                }
                front.extend_from_slice(b"\r\n");
                self.framing = Framing::Done;
            }
        }
        Ok(())
    }

    fn end(&mut self, output: &mut Output) -> Result<(), SendFault> {
        match self.framing {
            Framing::Done => {}
            // Less than was announced: the upstream must not wait for the rest, nor take it for the whole.
            Framing::Length(_) => return Err(SendFault::Upload(UploadFault::Malformed)),
            Framing::Chunked => output.front.extend_from_slice(b"0\r\n\r\n"),
        }
        self.framing = Framing::Done;
        Ok(())
    }
}

fn decimal(number: u64, out: &mut Vec<u8>) {
    digits::<10>(number, out);
}

fn hexadecimal(number: u64, out: &mut Vec<u8>) {
    digits::<16>(number, out);
}

/// A number without the machinery of `fmt`.
fn digits<const BASE: u64>(mut number: u64, out: &mut Vec<u8>) {
    let mut text = [0; 20];
    let mut from = text.len();
    for place in text.iter_mut().rev() {
        *place = b"0123456789abcdef"[(number % BASE) as usize];
        number /= BASE;
        from -= 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[from..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_fmt_would() {
        for number in [0, 1, 9, 10, 15, 16, 255, 4096, 1_234_567, u64::MAX] {
            let (mut decimals, mut hex) = (Vec::new(), Vec::new());
            decimal(number, &mut decimals);
            hexadecimal(number, &mut hex);
            assert_eq!(decimals, number.to_string().as_bytes());
            assert_eq!(hex, format!("{number:x}").as_bytes());
        }
    }
}
