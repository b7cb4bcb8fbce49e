//! The steps of a funnel, as given on the command line.

use std::collections::HashMap;

/// Steps in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Funnel {
    /// Their names.
    pub names: Vec<String>,
    /// The step of each route.
    pub step_of: HashMap<String, usize>,
}

/// Reads `NAME=ROUTE+ROUTE,ROUTE,…`.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str) -> Result<Funnel, String> {
    let mut funnel = Funnel { names: Vec::new(), step_of: HashMap::new() };
    for (place, step) in text.split(',').map(str::trim).enumerate() {
        let (name, routes) = step.split_once('=').unwrap_or((step, step));
        if name.is_empty() || funnel.names.iter().any(|known| known == name) {
            return Err(format!("a step needs a name of its own, not {name:?}"));
        }
        funnel.names.push(name.to_owned());
        for route in routes.split('+').map(str::trim) {
            if route.is_empty() {
                return Err(format!("the step {name:?} needs a route, as in {name}=ROUTE"));
            }
            if let Some(other) = funnel.step_of.insert(route.to_owned(), place) {
                return Err(format!("the route {route:?} is in {:?} and in {name:?}", funnel.names[other]));
            }
        }
    }
    Ok(funnel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_routes_or_are_made_of_them() {
        let funnel = parse("eligible=check, offered=get+list ,order").unwrap();
        assert_eq!(funnel.names, ["eligible", "offered", "order"]);
        let step = |route: &str| funnel.step_of.get(route).copied();
        assert_eq!([step("check"), step("get"), step("list"), step("order")], [Some(0), Some(1), Some(1), Some(2)]);
        assert_eq!(step("eligible"), None);
        for wrong in ["", "a,,b", "a,a", "a=x,b=x", "a=", "a=x+"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
