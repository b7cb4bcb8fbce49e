//! `schema`: the JSON Schema of the configuration file.

use clap::Args as ClapArgs;
use sessiongate::config::json_schema;

use super::failure::Failure;
use super::output::say;

const EXAMPLES: &str = "\
Examples:
  sessiongate schema > sessiongate.schema.json

Editors that know TOML schemas (taplo, Even Better TOML) complete and check files that begin with
  #:schema ./sessiongate.schema.json";

/// Print the JSON Schema of the configuration file
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {}

/// Prints the schema.
///
/// # Errors
/// [`Failure::Runtime`] if it cannot be printed.
pub fn run(_: &Args) -> Result<(), Failure> {
    say(json_schema().trim_end())
}
