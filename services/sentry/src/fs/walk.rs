//! The walk through a special file system, apart from what it walks on: components, `.` and `..`, links, trailing slashes,
//! permissions on directories. It knows no nodes and no vfs, so its promises are tested here.
//!
//! Invariants: every step shortens the path or counts as a link, and links are counted; a component is looked up only in a
//! directory that may be searched.

use bulkhead_ipc::Errno;

/// What is walked on.
pub(super) trait Ground {
    /// A file, directory or link.
    type Place: Clone;
    /// A place outside.
    type Outside;

    /// Whether names may be looked up in it: ENOTDIR, EACCES.
    fn search(&self, place: &Self::Place) -> Result<(), Errno>;
    /// Whether it is a directory.
    fn is_directory(&self, place: &Self::Place) -> Result<bool, Errno>;
    /// Whether it is a symbolic link.
    fn is_link(&self, place: &Self::Place) -> Result<bool, Errno>;
    /// The directory it is in; `None` for the topmost one.
    fn parent(&self, place: &Self::Place) -> Option<Self::Place>;
    /// An entry of a directory.
    fn child(&self, place: &Self::Place, name: &[u8]) -> Result<Self::Place, Errno>;
    /// Where a link leads.
    fn follow(&self, place: &Self::Place) -> Result<Lead<Self::Place, Self::Outside>, Errno>;
}

/// Where a link leads.
pub(super) enum Lead<P, O> {
    /// To a path.
    Text(Vec<u8>),
    /// To a place of the same ground.
    Place(P),
    /// Away.
    Outside(O),
}

/// Where a walk ends on this ground.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ending<P, O> {
    /// At a place.
    At(P),
    /// Above the topmost directory, from which this path (beginning with `..`) goes on.
    Above(P, Vec<u8>),
    /// At the caller's root, from which this absolute path goes on.
    Root(Vec<u8>),
    /// Outside, from where this path goes on; empty for the place itself.
    Outside(O, Vec<u8>),
}

/// PATH_MAX, with the NUL.
pub const PATH_MAX: usize = 4096;

/// Walks `path` from `place`. `link` is called for every link that is followed, and says when it is enough.
pub(super) fn walk<G: Ground>(
    ground: &G,
    mut place: G::Place,
    mut path: Vec<u8>,
    follow: bool,
    mut link: impl FnMut() -> Result<(), Errno>,
) -> Result<Ending<G::Place, G::Outside>, Errno> {
    loop {
        let start = path.iter().take_while(|&&byte| byte == b'/').count();
        let end = path[start..].iter().position(|&byte| byte == b'/').map_or(path.len(), |n| start + n);
        let (name, rest) = (&path[start..end], &path[end..]);
        if name.is_empty() {
            return match start > 0 && !ground.is_directory(&place)? {
                true => Err(Errno::ENOTDIR),
                false => Ok(Ending::At(place)),
            };
        }
        ground.search(&place)?;
        match name {
            b"." => {}
            b".." => match ground.parent(&place) {
                Some(parent) => place = parent,
                None => return Ok(Ending::Above(place, [b"..", rest].concat())),
            },
            name => {
                let child = ground.child(&place, name)?;
                if !ground.is_link(&child)? || rest.is_empty() && !follow {
                    place = child;
                } else {
                    link()?;
                    match ground.follow(&child)? {
                        Lead::Place(target) => place = target,
                        Lead::Outside(outside) => return Ok(Ending::Outside(outside, onward(rest))),
                        Lead::Text(text) => {
                            let text = [&text[..], rest].concat();
                            if text.is_empty() {
                                return Err(Errno::ENOENT);
                            }
                            if text.len() >= PATH_MAX {
                                return Err(Errno::ENAMETOOLONG);
                            }
                            if text[0] == b'/' {
                                return Ok(Ending::Root(text));
                            }
                            path = text;
                            continue;
                        }
                    }
                }
            }
        }
        path = rest.to_vec();
    }
}

/// The rest of a path as a relative one: `.` for slashes alone, which ask for a directory.
fn onward(rest: &[u8]) -> Vec<u8> {
    let slashes = rest.iter().take_while(|&&byte| byte == b'/').count();
    match &rest[slashes..] {
        b"" if slashes > 0 => b".".to_vec(),
        path => path.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Directories `/`, `/dir`, `/dir/sub`, `/locked`; files `/dir/file`, `/locked/file`; links as [`Paths::follow`] has them.
    struct Paths;

    impl Ground for Paths {
        type Place = String;
        type Outside = &'static str;

        fn search(&self, place: &String) -> Result<(), Errno> {
            match place.as_str() {
                "/locked" => Err(Errno::EACCES),
                _ if self.is_directory(place)? => Ok(()),
                _ => Err(Errno::ENOTDIR),
            }
        }
        fn is_directory(&self, place: &String) -> Result<bool, Errno> {
            Ok(["/", "/dir", "/dir/sub", "/locked"].contains(&place.as_str()))
        }
        fn is_link(&self, place: &String) -> Result<bool, Errno> {
            Ok(self.follow(place).is_ok())
        }
        fn parent(&self, place: &String) -> Option<String> {
            let (parent, name) = place.rsplit_once('/')?;
            (!name.is_empty()).then(|| if parent.is_empty() { "/".into() } else { parent.into() })
        }
        fn child(&self, place: &String, name: &[u8]) -> Result<String, Errno> {
            let path = format!("{}/{}", place.trim_end_matches('/'), String::from_utf8_lossy(name));
            let file = ["/dir/file", "/locked/file"].contains(&path.as_str());
            if file || self.is_directory(&path)? || self.is_link(&path)? { Ok(path) } else { Err(Errno::ENOENT) }
        }
        fn follow(&self, place: &String) -> Result<Lead<String, &'static str>, Errno> {
            Ok(match place.as_str() {
                "/to-dir" => Lead::Text(b"dir".to_vec()),
                "/loop" => Lead::Text(b"loop".to_vec()),
                "/absolute" => Lead::Text(b"/etc".to_vec()),
                "/dir/up" => Lead::Text(b"../dir/file".to_vec()),
                "/magic" => Lead::Place("/dir".into()),
                "/away" => Lead::Outside("elsewhere"),
                _ => return Err(Errno::EINVAL),
            })
        }
    }

    fn go(path: &str, follow: bool) -> Result<Ending<String, &'static str>, Errno> {
        let mut links = 0;
        walk(&Paths, "/".into(), path.into(), follow, || {
            links += 1;
            if links > 40 { Err(Errno::ELOOP) } else { Ok(()) }
        })
    }

    fn at(place: &str) -> Result<Ending<String, &'static str>, Errno> {
        Ok(Ending::At(place.into()))
    }

    #[test]
    fn dots_and_slashes_lead_nowhere_else() {
        assert_eq!(go("", true), at("/"));
        assert_eq!(go("./dir//./sub/../", true), at("/dir"));
        assert_eq!(go("dir/file/", true), Err(Errno::ENOTDIR));
        assert_eq!(go("dir/file/.", true), Err(Errno::ENOTDIR));
        assert_eq!(go("dir/none/..", true), Err(Errno::ENOENT));
    }

    #[test]
    fn a_link_at_the_end_is_followed_when_asked_or_when_a_slash_follows() {
        assert_eq!(go("to-dir", false), at("/to-dir"));
        assert_eq!(go("to-dir", true), at("/dir"));
        assert_eq!(go("to-dir/", false), at("/dir"));
        assert_eq!(go("to-dir/up", true), at("/dir/file"));
        assert_eq!(go("magic/file", false), at("/dir/file"));
    }

    #[test]
    fn a_loop_of_links_ends() {
        assert_eq!(go("loop", true), Err(Errno::ELOOP));
        assert_eq!(go("loop/x", false), Err(Errno::ELOOP));
    }

    #[test]
    fn a_walk_that_leaves_takes_the_rest_of_its_path_along() {
        assert_eq!(go("../sys/x", true), Ok(Ending::Above("/".into(), b"../sys/x".to_vec())));
        assert_eq!(go("dir/../..", true), Ok(Ending::Above("/".into(), b"..".to_vec())));
        assert_eq!(go("absolute/passwd", true), Ok(Ending::Root(b"/etc/passwd".to_vec())));
        assert_eq!(go("away", true), Ok(Ending::Outside("elsewhere", b"".to_vec())));
        assert_eq!(go("away/", false), Ok(Ending::Outside("elsewhere", b".".to_vec())));
        assert_eq!(go("away//a/b/", false), Ok(Ending::Outside("elsewhere", b"a/b/".to_vec())));
    }

    #[test]
    fn what_may_not_be_searched_is_not() {
        assert_eq!(go("locked", true), at("/locked"));
        assert_eq!(go("locked/file", true), Err(Errno::EACCES));
        assert_eq!(go("locked/..", true), Err(Errno::EACCES));
    }
}
