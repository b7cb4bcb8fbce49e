//! What the trail keeps and where it goes.

use secrecy::SecretString;

use crate::config::raw::{Period, Size, SubjectName, Table, Trail, TrailFiles};
use crate::config::snapshot::{AccessLog, LogConfig};
use crate::trail::config::{FilesConfig, SubjectForm, TrailConfig};
use crate::trail::subject::KEY_MIN;

use super::context::Context;
use super::secrets;

/// Ten years, about as long as anything may be kept.
const TEN_YEARS: Period = Period::secs(3660 * 24 * 3600);

pub(super) fn trail(cx: &mut Context<'_>, trail: &Table<Trail>, logs: &LogConfig) -> TrailConfig {
    let mib = |mib: u64| Size::kib(mib * 1024);
    let memory = match *trail.memory {
        Size(0) => 0,
        _ => bytes(cx.within(&trail.memory, mib(1)..=mib(64 << 10))),
    };
    if *trail.stdout && logs.access == AccessLog::Stdout {
        let hint = "write logs.access = \"off\" or a path with a \"/\" in it";
        cx.mistake_hint(trail.stdout.span(), "the access log goes to standard output already", hint);
    }
    let subject = match trail.subject {
        SubjectName::Digest => SubjectForm::Digest,
        SubjectName::Clear => SubjectForm::Clear,
        SubjectName::Off => SubjectForm::Off,
    };
    let subject_key = trail.subject_key.as_ref().and_then(|reference| {
        if subject != SubjectForm::Digest {
            let hint = "write subject = \"digest\", or remove this";
            cx.mistake_hint(reference.span(), "subjects are not told by digests", hint);
        }
        let secret = secrets::read(cx, reference)?;
        let text = std::str::from_utf8(&secret.bytes).unwrap_or_default();
        if text.len() < KEY_MIN {
            cx.mistake(reference.span(), format!("{}: a key has at least {KEY_MIN} bytes of text", secret.origin));
        }
        Some(SecretString::from(text))
    });
    TrailConfig {
        memory,
        calls_per_session: cx.within(&trail.calls_per_session, 1..=10_000) as usize,
        keep: cx.within(&trail.keep, Period::secs(1)..=TEN_YEARS).0,
        queue: bytes(cx.within(&trail.queue, mib(1)..=mib(1 << 10))),
        subject,
        subject_key,
        stdout: *trail.stdout,
        files: trail.files.as_ref().and_then(|table| files(cx, table)),
    }
}

fn files(cx: &mut Context<'_>, files: &Table<TrailFiles>) -> Option<FilesConfig> {
    let max_size = cx.within(&files.max_size, Size::kib(64)..=Size::kib(64 << 20));
    let keep_size = cx.within(&files.keep_size, Size::kib(64)..=Size::kib(1 << 40));
    if keep_size < max_size {
        let message = format!("not even one file of max_size ({max_size}) would be kept");
        cx.mistake_hint(files.keep_size.span(), message, "make keep_size larger than max_size");
    }
    let span = Period::secs(1)..=TEN_YEARS;
    let config = FilesConfig {
        folder: std::path::PathBuf::new(),
        max_size: max_size.0,
        max_age: cx.within(&files.max_age, span.clone()).0,
        keep_for: cx.within(&files.keep_for, span).0,
        keep_size: keep_size.0,
        keep_files: files.keep_files.as_ref().map(|most| usize::try_from(most.get()).unwrap_or(usize::MAX)),
    };
    let folder = cx.required(files.folder.as_ref(), files.span(), "folder", "/var/lib/sessiongate/trail")?;
    let folder = cx.path(folder);
    // Whether it can be written to is found when it is: `check` may run elsewhere, and as somebody else.
    if folder.exists() && !folder.is_dir() {
        let at = files.folder.as_ref().map(crate::config::raw::At::span).unwrap_or_default();
        cx.mistake(at, format!("{} is not a folder", folder.display()));
    }
    Some(FilesConfig { folder, ..config })
}

fn bytes(size: Size) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}
