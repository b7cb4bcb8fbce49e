//! The body of a request on its way.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;
use http_body::{Body, Frame};

use crate::upstream::fields::is_forbidden_trailer;
use crate::upstream::upload::{Upload, UploadFault};

/// What is still to be sent of a request. At most one piece of the body is held here, so that the upstream's pace becomes
/// the client's.
#[derive(Debug)]
pub(super) struct Sending {
    /// None when all has gone, or when the upstream wants no more.
    stream: Option<SendStream<Bytes>>,
    upload: Upload,
    /// Taken from the upload and not sent yet.
    held: Bytes,
    /// The one piece that was taken so far, for the case that the upstream did not process it.
    first: Option<Bytes>,
    /// Whether the upload can be given back: it was not taken from, but for `first`.
    whole: bool,
    /// What is left of the announced length.
    left: Option<u64>,
}

impl Sending {
    /// Sends `upload` by `stream`, if there is one.
    pub(super) fn new(stream: Option<SendStream<Bytes>>, upload: Upload) -> Self {
        let stream = stream.filter(|_| !upload.is_empty());
        let left = upload.size_hint().exact();
        Self { stream, upload, held: Bytes::new(), first: None, whole: true, left }
    }

    /// Sends as much as there is and as the upstream takes; ready when all of it is on its way, or when the upstream wants
    /// no more of it.
    ///
    /// # Errors
    /// What is wrong with the body. The stream has been reset then: the upstream must not take a part for the whole.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), UploadFault>> {
        loop {
            let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(())) };
            if self.held.is_empty() {
                match ready!(Pin::new(&mut self.upload).poll_frame(context)) {
                    Some(Ok(frame)) => {
                        if let Err(fault) = self.take(frame) {
                            return Poll::Ready(Err(self.abort(fault)));
                        }
                    }
                    Some(Err(fault)) => return Poll::Ready(Err(self.abort(fault))),
                    // Less than was announced.
                    None if self.left.is_some_and(|left| left > 0) => {
                        return Poll::Ready(Err(self.abort(UploadFault::Malformed)));
                    }
                    None => {
                        self.whole = false;
                        _ = stream.send_data(Bytes::new(), true);
                        self.stream = None;
                    }
                }
                continue;
            }
            while stream.capacity() == 0 {
                match ready!(stream.poll_capacity(context)) {
                    Some(Ok(_)) => {}
                    // The stream has ended, and reading from it says how.
                    Some(Err(_)) | None => {
                        self.stream = None;
                        return Poll::Ready(Ok(()));
                    }
                }
            }
            let piece = self.held.split_to(stream.capacity().min(self.held.len()));
            let last = self.held.is_empty() && self.upload.is_end_stream();
            if last && self.left.is_some_and(|left| left > 0) {
                return Poll::Ready(Err(self.abort(UploadFault::Malformed)));
            }
            if stream.send_data(piece, last).is_err() || last {
                self.stream = None;
            } else {
                stream.reserve_capacity(self.held.len());
            }
        }
    }

    /// The upload, if it is still what it was.
    pub(super) fn take_back(mut self) -> Option<Upload> {
        self.whole.then(|| {
            if let Some(first) = self.first.take() {
                self.upload.put_back(first);
            }
            self.upload
        })
    }

    /// The request was processed: it is never sent again.
    pub(super) fn commit(&mut self) {
        (self.first, self.whole) = (None, false);
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Result<(), UploadFault> {
        match frame.into_data() {
            Ok(data) => {
                if let Some(left) = &mut self.left {
                    *left = left.checked_sub(data.len() as u64).ok_or(UploadFault::Malformed)?;
                }
                if data.is_empty() {
                    return Ok(());
                }
                self.whole &= self.first.is_none();
                self.first = self.whole.then(|| data.clone());
                self.held = data;
                if let Some(stream) = &mut self.stream {
                    stream.reserve_capacity(self.held.len());
                }
            }
            Err(frame) => {
                self.whole = false;
                if self.left.is_some_and(|left| left > 0) {
                    return Err(UploadFault::Malformed);
                }
                let trailers = frame.into_trailers().unwrap_or_default();
                if let Some(mut stream) = self.stream.take() {
                    _ = stream.send_trailers(allowed(trailers));
                }
            }
        }
        Ok(())
    }

    fn abort(&mut self, fault: UploadFault) -> UploadFault {
        if let Some(mut stream) = self.stream.take() {
            stream.send_reset(Reason::CANCEL);
        }
        self.whole = false;
        fault
    }
}

/// The trailers that may be sent.
pub(super) fn allowed(mut trailers: HeaderMap) -> HeaderMap {
    let forbidden: Vec<_> = trailers.keys().filter(|name| is_forbidden_trailer(name)).cloned().collect();
    for name in forbidden {
        trailers.remove(name);
    }
    trailers
}
