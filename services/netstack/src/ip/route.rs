//! The routing table: the longest prefix wins, then the lowest metric, then the one that was there first.

use super::Prefix;
use crate::link::InterfaceId;
use std::net::IpAddr;

/// One route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Which destinations it is for.
    pub destination: Prefix,
    /// The router, or none if the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Where the packets go out.
    pub interface: InterfaceId,
    /// The lower, the better.
    pub metric: u32,
    /// The source address for those who have chosen none.
    pub source: Option<IpAddr>,
    /// A path MTU below the link's.
    pub mtu: Option<usize>,
}

/// All routes.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// In the order in which they are tried.
    routes: Vec<Route>,
}

impl Table {
    pub(crate) fn add(&mut self, route: Route) {
        let rank = |route: &Route| (u8::MAX - route.destination.length(), route.metric);
        let place = self.routes.partition_point(|other| rank(other) <= rank(&route));
        self.routes.insert(place, route);
    }

    pub(crate) fn remove(&mut self, matches: impl Fn(&Route) -> bool) -> usize {
        let before = self.routes.len();
        self.routes.retain(|route| !matches(route));
        before - self.routes.len()
    }

    /// The route to a destination among those whose interface is `usable`.
    pub(crate) fn lookup(&self, destination: IpAddr, usable: impl Fn(InterfaceId) -> bool) -> Option<&Route> {
        self.routes.iter().find(|route| route.destination.contains(destination) && usable(route.interface))
    }

    pub(crate) fn list(&self) -> &[Route] {
        &self.routes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(prefix: &str, length: u8, interface: u32, metric: u32) -> Route {
        Route {
            destination: Prefix::new(prefix.parse().unwrap(), length),
            gateway: None,
            interface: InterfaceId(interface),
            metric,
            source: None,
            mtu: None,
        }
    }

    fn table() -> Table {
        let mut table = Table::default();
        for route in [
            route("0.0.0.0", 0, 1, 0),
            route("10.0.0.0", 8, 2, 100),
            route("10.0.0.0", 8, 3, 50),
            route("10.1.0.0", 16, 4, 900),
            route("::", 0, 5, 0),
        ] {
            table.add(route);
        }
        table
    }

    #[test]
    fn the_longest_prefix_wins_then_the_lowest_metric() {
        let table = table();
        let to = |address: &str| table.lookup(address.parse().unwrap(), |_| true).map(|route| route.interface.0);
        assert_eq!(to("10.1.2.3"), Some(4));
        assert_eq!(to("10.2.2.3"), Some(3));
        assert_eq!(to("8.8.8.8"), Some(1));
        assert_eq!(to("fd00::1"), Some(5));
    }

    #[test]
    fn a_route_whose_interface_is_down_is_passed_over() {
        let found = table().lookup("10.1.2.3".parse().unwrap(), |interface| interface.0 != 4).map(|route| route.interface.0);
        assert_eq!(found, Some(3));
    }

    #[test]
    fn removed_routes_are_gone() {
        let mut table = table();
        assert_eq!(table.remove(|route| route.destination.length() == 0), 2);
        assert!(table.lookup("8.8.8.8".parse().unwrap(), |_| true).is_none());
        assert_eq!(table.list().len(), 3);
    }
}
