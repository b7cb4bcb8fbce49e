//! Records as CSV (RFC 4180), safe to open in a spreadsheet: a text that one would take for a formula is marked as text.

use super::line::{Fields, Line, Observed, Verdict, field_name};
use crate::policy::violation::Field;

/// The names of the columns, and the line end.
pub const HEAD: &str = "time,session,number,request_id,correlation_id,client,subject,method,host,path,query,body,\
scope,headers,protocol,route,upstream,verdict,code,status,ended_by,observed,rate_rule,flow,step,step_before,step_after,\
step_outcome,step_rule,admission_us,first_byte_us,total_us,bytes_in,bytes_out\r\n";

/// Appends a record.
pub fn write(out: &mut String, line: &Line<'_>) {
    let number = |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
    let cells = [
        line.time.as_ref(),
        &line.session,
        &number(Some(line.number).filter(|number| *number > 0)),
        &line.request_id,
        &line.correlation_id,
        &line.client,
        &line.subject,
        known(&line.method),
        &line.host,
        &line.path,
        flag(line.query),
        flag(line.body),
        &line.scope,
        &names(line.headers),
        &line.protocol,
        known(&line.route),
        known(&line.upstream),
        match line.verdict {
            Verdict::Admitted => "admitted",
            Verdict::Refused => "refused",
        },
        &line.code,
        &line.status.to_string(),
        &line.ended_by,
        &observed(line.observed),
        &line.rate_rule,
        &line.flow,
        &line.step,
        &line.step_before,
        &line.step_after,
        &line.step_outcome,
        &line.step_rule,
        &number(line.admission_us),
        &number(line.first_byte_us),
        &line.total_us.to_string(),
        &line.bytes_in.to_string(),
        &line.bytes_out.to_string(),
    ];
    row(out, cells);
}

/// Appends a row of cells.
pub fn row<'c>(out: &mut String, cells: impl IntoIterator<Item = &'c str>) {
    for (place, text) in cells.into_iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        cell(out, text);
    }
    out.push_str("\r\n");
}

/// Spreadsheets take what begins like this for a formula.
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

fn cell(out: &mut String, text: &str) {
    let formula = text.starts_with(FORMULA);
    if !formula && !text.contains([',', '"', '\r', '\n']) {
        return out.push_str(text);
    }
    out.push('"');
    if formula {
        out.push('\'');
    }
    for letter in text.chars() {
        if letter == '"' {
            out.push('"');
        }
        out.push(letter);
    }
    out.push('"');
}

const fn flag(flag: bool) -> &'static str {
    if flag { "true" } else { "false" }
}

/// An empty cell where there is no name.
fn known(name: &str) -> &str {
    if name == "-" { "" } else { name }
}

fn names(fields: Fields) -> String {
    let names: Vec<_> = Field::ALL.into_iter().filter(|field| fields.contains(*field)).map(field_name).collect();
    names.join(" ")
}

fn observed(Observed(found): Observed) -> String {
    let found: Vec<_> =
        found.iter().map(|(field, fault)| format!("{} {}", field_name(field), fault.as_str())).collect();
    found.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spreadsheet_takes_no_cell_for_a_formula() {
        let mut out = String::new();
        row(&mut out, ["plain", "=1+1", "+1", "-1", "@x", "\tx", "a,b", "a\"b", "a=b", ""]);
        assert_eq!(out, "plain,\"'=1+1\",\"'+1\",\"'-1\",\"'@x\",\"'\tx\",\"a,b\",\"a\"\"b\",a=b,\r\n");
    }

    #[test]
    fn a_record_has_as_many_cells_as_there_are_columns() {
        let mut out = String::new();
        write(&mut out, &crate::trail::line::tests::full());
        assert_eq!(out.matches(',').count(), HEAD.matches(',').count(), "{out}");
    }
}
