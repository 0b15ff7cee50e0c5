//! A small chart as SVG: curves over logarithmic axes.

use std::fmt::Write;

/// Points that belong together.
pub(super) struct Curve {
    pub(super) label: &'static str,
    /// Any colour that SVG knows.
    pub(super) color: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
/// Room for the axes' numbers and names.
const LEFT: f64 = 70.0;
const BELOW: f64 = 55.0;
const MARGIN: f64 = 40.0;

/// A chart of curves; both axes are logarithmic and span whole powers of ten, so all values must be positive.
pub(super) fn chart(title: &str, x_name: &str, y_name: &str, curves: &[Curve]) -> String {
    let all = || curves.iter().flat_map(|curve| &curve.points);
    let (x, y) = (Axis::over(all().map(|point| point.0)), Axis::over(all().map(|point| point.1)));
    let (right, bottom) = (WIDTH - MARGIN, HEIGHT - BELOW);
    let at_x = |value: f64| LEFT + x.place(value) * (right - LEFT);
    let at_y = |value: f64| bottom - y.place(value) * (bottom - MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let mut text = |x: f64, y: f64, anchor: &str, text: &str| {
        let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
    };
    text(WIDTH / 2.0, 20.0, "middle", title);
    text((LEFT + right) / 2.0, HEIGHT - 12.0, "middle", x_name);
    text(8.0, MARGIN - 10.0, "start", y_name);
    for (row, curve) in curves.iter().enumerate() {
        let label = format!("<tspan fill=\"{}\">{}</tspan>", curve.color, curve.label);
        text(LEFT + 12.0, MARGIN + 16.0 * (row as f64 + 1.0), "start", &label);
    }
    for tick in x.ticks() {
        text(at_x(tick), bottom + 18.0, "middle", &number(tick));
    }
    for tick in y.ticks() {
        text(LEFT - 8.0, at_y(tick) + 4.0, "end", &number(tick));
    }
    let mut line = |x1: f64, y1: f64, x2: f64, y2: f64| {
        let _ = writeln!(
            svg,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#ccc\"/>"
        );
    };
    x.ticks().for_each(|tick| line(at_x(tick), MARGIN, at_x(tick), bottom));
    y.ticks().for_each(|tick| line(LEFT, at_y(tick), right, at_y(tick)));
    for curve in curves {
        let points = curve.points.iter().map(|(x, y)| format!("{:.1},{:.1}", at_x(*x), at_y(*y)));
        let points = points.collect::<Vec<_>>().join(" ");
        let _ = writeln!(svg, "<polyline points=\"{points}\" fill=\"none\" stroke=\"{}\"/>", curve.color);
        for (x, y) in &curve.points {
            let (x, y) = (at_x(*x), at_y(*y));
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{}\"/>", curve.color);
        }
    }
    svg + "</svg>\n"
}

/// Powers of ten.
struct Axis {
    low: i32,
    high: i32,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>) -> Self {
        let (least, most) =
            values.fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)));
        let low = least.log10().floor() as i32;
        Self { low, high: (most.log10().ceil() as i32).max(low + 1) }
    }

    /// From 0 at the low end to 1 at the high one.
    fn place(&self, value: f64) -> f64 {
        (value.log10() - f64::from(self.low)) / f64::from(self.high - self.low)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> + use<> {
        (self.low..=self.high).map(|power| 10f64.powi(power))
    }
}

fn number(value: f64) -> String {
    if value >= 1000.0 { format!("{}k", value / 1000.0) } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_between_whole_powers_of_ten() {
        let axis = Axis::over([3.0, 40.0, 500.0].into_iter());
        assert_eq!(axis.ticks().collect::<Vec<_>>(), [1.0, 10.0, 100.0, 1000.0]);
        assert!((axis.place(10.0) - 1.0 / 3.0).abs() < 1e-12);
        let curve = Curve { label: "measured", color: "blue", points: vec![(3.0, 1.0), (500.0, 9.0)] };
        let svg = chart("title", "tokens", "seconds", &[curve]);
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains(">1k</text>") && !svg.contains("NaN"));
    }
}
