//! What is encoded is what is decoded, and no bytes make the decoder panic.

use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::vfs::tests::{attributes, entry, set_time, statistics};

fn handle() -> impl Strategy<Value = Handle> {
    any::<u64>().prop_map(Handle)
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    "[a-z]{1,20}".prop_map(String::into_bytes)
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        any::<u32>().prop_map(|root| Request::Attach { root }),
        (handle(), vec(name(), 0..WALK_LIMIT)).prop_map(|(base, names)| Request::Walk { base, names }),
        handle().prop_map(|handle| Request::Attributes { handle }),
        (handle(), name(), 0..3u32).prop_map(|(directory, name, access)| Request::Open { directory, name, access }),
        (handle(), name(), any::<[u32; 3]>(), 0..3u32).prop_map(|(directory, name, [mode, uid, gid], access)| {
            Request::Create { directory, name, mode, uid, gid, access }
        }),
        (handle(), name(), any::<[u32; 3]>(), any::<u64>(), name()).prop_map(
            |(directory, name, [mode, uid, gid], device, target)| Request::Make {
                directory,
                name,
                mode,
                device,
                uid,
                gid,
                target
            }
        ),
        (handle(), name(), handle(), name(), any::<u32>()).prop_map(|(from, from_name, directory, name, flags)| {
            Request::Rename { from, from_name, directory, name, flags }
        }),
        (handle(), name(), handle(), name()).prop_map(|(from, from_name, directory, name)| Request::Link {
            from,
            from_name,
            directory,
            name
        }),
        (handle(), option::of(any::<u32>()), option::of(any::<u32>())).prop_map(|(handle, uid, gid)| Request::Chown {
            handle,
            uid,
            gid
        }),
        (handle(), set_time(), set_time()).prop_map(|(handle, accessed, modified)| Request::SetTimes {
            handle,
            accessed,
            modified
        }),
        (handle(), name(), name(), any::<u32>()).prop_map(|(handle, name, value, flags)| Request::SetXattr {
            handle,
            name,
            value,
            flags
        }),
        vec(handle(), 0..20).prop_map(|handles| Request::Close { handles }),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    let found = || (handle(), attributes(), name()).prop_map(|(handle, attributes, target)| Entry { handle, attributes, target });
    prop_oneof![
        any::<i32>().prop_map(|number| Reply::Error(Errno::new(number))),
        Just(Reply::Done),
        (vec(found(), 0..5), option::of(1..4095i32))
            .prop_map(|(entries, stopped)| Reply::Walked { entries, stopped: stopped.map(Errno::new) }),
        attributes().prop_map(Reply::Attributes),
        found().prop_map(Reply::Opened),
        name().prop_map(Reply::Bytes),
        vec(entry(), 0..10).prop_map(Reply::Entries),
        statistics().prop_map(Reply::Statistics),
    ]
}

proptest! {
    #[test]
    fn messages_are_decoded_to_what_was_encoded(request in request(), reply in reply()) {
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        prop_assert_eq!(Request::decode(&bytes).unwrap(), request);
        reply.encode(&mut bytes);
        prop_assert_eq!(Reply::decode(&bytes).unwrap(), reply);
    }

    #[test]
    fn no_change_of_a_message_makes_the_decoders_panic(
        request in request(), reply in reply(), changes in vec((any::<usize>(), any::<u8>()), 1..8)
    ) {
        let mut bytes = Vec::new();
        for first in [true, false] {
            if first { request.encode(&mut bytes) } else { reply.encode(&mut bytes) };
            for &(index, value) in &changes {
                let index = index % bytes.len();
                bytes[index] = value;
            }
            let _ = Request::decode(&bytes);
            let _ = Reply::decode(&bytes);
        }
    }
}

#[test]
fn a_name_is_one_component() {
    for name in [&b"."[..], b"..", b"a/b", b"/", b"a\0"] {
        let mut bytes = Vec::new();
        Request::Walk { base: Handle(1), names: vec![name.to_vec()] }.encode(&mut bytes);
        assert!(Request::decode(&bytes).is_err(), "{name:?} was taken");
    }
}
