//! Tables for a terminal.

use std::ops::RangeBounds;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// A table without lines; the columns in `right` are aligned so.
pub fn table(header: &[&str], right: impl RangeBounds<usize>, rows: impl Iterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled).set_header(header.iter().copied());
    // What files hold may be anything; it must not move the cursor.
    let safe = |cell: String| cell.replace(char::is_control, "\u{fffd}");
    rows.for_each(|row| _ = table.add_row(row.into_iter().map(safe)));
    let columns = table.column_iter_mut().enumerate().filter(|(place, _)| right.contains(place));
    columns.for_each(|(_, column)| column.set_cell_alignment(CellAlignment::Right));
    table
}
