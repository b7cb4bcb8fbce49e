//! The registry of clients.

use crate::config::clients::Registry;
use crate::config::error::mistakes;
use crate::config::raw::{Clients, Table};

use super::context::Context;

pub(super) fn registry(cx: &mut Context<'_>, clients: &Table<Clients>) -> Option<Registry> {
    let text = cx.required(clients.path.as_ref(), clients.span(), "path", "./clients.toml")?;
    let path = cx.path(text);
    match Registry::load(&path) {
        Ok(registry) => Some(registry),
        Err(files) => {
            let count = mistakes(files.iter().map(|file| file.mistakes().len()).sum());
            cx.mistake(text.span(), format!("the registry of clients at {} has {count}", path.display()));
            cx.mistakes_of(files);
            None
        }
    }
}
