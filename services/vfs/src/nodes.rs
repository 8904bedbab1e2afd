//! The places that the sentry holds, by the ids it was given. Ids are never reused.

use std::collections::HashMap;

use bulkhead_ipc::{Errno, vfs::NodeId};

use crate::{mounts::Place, tree::Tree};

#[derive(Debug)]
struct Node {
    place: Place,
    references: u64,
}

/// The table. Each node holds its dentry once.
#[derive(Debug)]
pub struct Nodes {
    nodes: HashMap<NodeId, Node>,
    by_place: HashMap<Place, NodeId>,
    next: u64,
}

impl Nodes {
    /// With the root of the mount tree, which stays.
    pub fn new(tree: &mut Tree, root: Place) -> Nodes {
        tree.hold(root.dentry);
        tree.count_node(root.dentry, true);
        let nodes = HashMap::from([(NodeId::ROOT, Node { place: root, references: 1 })]);
        Nodes { nodes, by_place: HashMap::from([(root, NodeId::ROOT)]), next: NodeId::ROOT.0 + 1 }
    }

    /// Where a node is; EBADF.
    pub fn place(&self, node: NodeId) -> Result<Place, Errno> {
        self.nodes.get(&node).map(|node| node.place).ok_or(Errno::EBADF)
    }

    /// A reference to a place.
    pub fn refer(&mut self, tree: &mut Tree, place: Place) -> NodeId {
        if let Some(&id) = self.by_place.get(&place)
            && let Some(node) = self.nodes.get_mut(&id)
        {
            node.references += 1;
            return id;
        }
        let id = NodeId(self.next);
        self.next += 1;
        tree.hold(place.dentry);
        tree.count_node(place.dentry, true);
        self.by_place.insert(place, id);
        self.nodes.insert(id, Node { place, references: 1 });
        id
    }

    /// One more reference; EBADF.
    pub fn remember(&mut self, node: NodeId) -> Result<(), Errno> {
        self.nodes.get_mut(&node).ok_or(Errno::EBADF)?.references += 1;
        Ok(())
    }

    /// One less. A node that is not there is passed over.
    pub fn forget(&mut self, tree: &mut Tree, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if id == NodeId::ROOT && node.references == 1 {
            return;
        }
        node.references -= 1;
        if node.references > 0 {
            return;
        }
        let place = node.place;
        self.nodes.remove(&id);
        self.by_place.remove(&place);
        tree.count_node(place.dentry, false);
        tree.release(place.dentry);
    }

    /// Whether a node is seen through this mount.
    pub fn uses_mount(&self, mount: u32) -> bool {
        self.by_place.keys().any(|place| place.mount == mount)
    }

    /// All of them, with where they are and how often they are held.
    pub fn all(&self) -> impl Iterator<Item = (NodeId, Place, u64)> {
        self.nodes.iter().map(|(id, node)| (*id, node.place, node.references))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }
}
