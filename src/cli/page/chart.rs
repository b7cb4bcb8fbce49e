//! Charts as SVG, drawn here: a report opens everywhere and fetches nothing.

use std::fmt::Write;

/// Width of a chart, in the units of its view box.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;

/// A line of a chart.
pub struct Line<'l> {
    /// Its name, in the legend.
    pub name: &'l str,
    /// The class of its color: `a` to `f`.
    pub color: &'l str,
    /// Its points, by x.
    pub points: Vec<(f64, f64)>,
}

/// Where the marks of an axis are, and what they say.
pub struct Axis {
    /// The greatest value; above 0.
    pub most: f64,
    /// Marks: value and text.
    pub marks: Vec<(f64, String)>,
}

impl Axis {
    /// From zero to at least `most`, with round marks.
    pub fn rounded(most: f64, text: impl Fn(f64) -> String) -> Self {
        let most = if most > 0.0 { most } else { 1.0 };
        let power = 10f64.powf((most / 4.0).log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| step * 4.0 >= most);
        let step = step.unwrap_or(10.0 * power);
        let count = (most / step).ceil().max(1.0) as u32;
        let marks = (0..=count).map(|mark| f64::from(mark) * step).map(|value| (value, text(value))).collect();
        Self { most: f64::from(count) * step, marks }
    }

    /// Without marks beyond its end.
    pub fn within(mut self) -> Self {
        let most = self.most;
        self.marks.retain(|(value, _)| *value <= most);
        self
    }
}

/// Lines over two axes.
pub fn lines(title: &str, lines: &[Line<'_>], x: &Axis, y: &Axis) -> String {
    let mut svg = frame(title, x, y);
    for line in lines {
        let points: Vec<String> =
            line.points.iter().map(|(at, value)| format!("{:.1},{:.1}", place_x(*at, x), place_y(*value, y))).collect();
        match points.as_slice() {
            // A line of one point would not be seen.
            [point] => {
                let (cx, cy) = point.split_once(',').unwrap_or_default();
                _ = write!(svg, "<circle class=\"dot {}\" cx=\"{cx}\" cy=\"{cy}\" r=\"3\"/>", line.color);
            }
            _ => _ = write!(svg, "<polyline class=\"line {}\" points=\"{}\"/>", line.color, points.join(" ")),
        }
    }
    svg.push_str("</svg>");
    svg.push_str(&legend(lines.iter().map(|line| (line.name, line.color))));
    svg
}

/// Bars of parts on top of each other, `width` wide on the x axis.
pub fn stacks(title: &str, parts: &[Line<'_>], width: f64, x: &Axis, y: &Axis) -> String {
    let mut svg = frame(title, x, y);
    let mut base = vec![0.0; parts.iter().map(|part| part.points.len()).max().unwrap_or_default()];
    for part in parts {
        for ((at, value), below) in part.points.iter().zip(&mut base) {
            if *value > 0.0 {
                let (left, right) = (place_x(*at, x), place_x(at + width, x));
                let (top, bottom) = (place_y(*below + value, y), place_y(*below, y));
                _ = write!(
                    svg,
                    "<rect class=\"bar {}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
                    part.color,
                    (right - left - 0.5).max(0.5),
                    bottom - top
                );
            }
            *below += value;
        }
    }
    svg.push_str("</svg>");
    svg.push_str(&legend(parts.iter().map(|part| (part.name, part.color))));
    svg
}

fn place_x(value: f64, axis: &Axis) -> f64 {
    LEFT + (value / axis.most).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
}

fn place_y(value: f64, axis: &Axis) -> f64 {
    HEIGHT - BOTTOM - (value / axis.most).clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM)
}

fn frame(title: &str, x: &Axis, y: &Axis) -> String {
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">");
    for (value, text) in &y.marks {
        let at = place_y(*value, y);
        _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0
        );
    }
    for (value, text) in &x.marks {
        let at = place_x(*value, x);
        // The outermost texts would reach beyond the chart.
        let anchor = if at > WIDTH - RIGHT - 20.0 { "end" } else { "middle" };
        _ = write!(svg, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{text}</text>", HEIGHT - BOTTOM + 22.0);
    }
    svg
}

fn legend<'l>(entries: impl Iterator<Item = (&'l str, &'l str)>) -> String {
    let items: String = entries.map(|(name, color)| format!("<li class=\"{color}\">{name}</li>")).collect();
    format!("<ul class=\"legend\">{items}</ul>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_marks_that_cover_all() {
        for (most, top) in [(0.0, 1.0), (0.7, 0.8), (1.0, 1.0), (9.0, 10.0), (99.0, 100.0), (1234.0, 1500.0)] {
            let axis = Axis::rounded(most, |value| format!("{value}"));
            assert!((axis.most - top).abs() < 1e-9, "{most}: {}", axis.most);
            assert!((2..=6).contains(&axis.marks.len()), "{most}: {}", axis.marks.len());
        }
    }

    #[test]
    fn stacked_parts_stand_on_each_other() {
        let part = |name, value| Line { name, color: name, points: vec![(0.0, value)] };
        let axis = || Axis { most: 4.0, marks: Vec::new() };
        let svg = stacks("t", &[part("a", 1.0), part("b", 3.0)], 1.0, &axis(), &axis());
        // The whole height is 194 units: a quarter below, three above it.
        assert!(svg.contains("y=\"157.5\"") && svg.contains("height=\"48.5\""), "{svg}");
        assert!(svg.contains("y=\"12.0\"") && svg.contains("height=\"145.5\""), "{svg}");
    }
}
