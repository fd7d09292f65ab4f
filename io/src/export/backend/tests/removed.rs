//! A spool that was removed under its exporter.

use floe_storage::ExportLock;

use super::*;

/// Another daemon made the spool again under the same name: what lies there is its own to send.
#[test]
fn r5_a_queue_that_another_has_by_now_is_left_to_it_until_it_goes() {
    let parent = TempDir::new().unwrap();
    let mut store = Store::at(&parent.path().join("spool"), &["main"]);
    let carbon = Carbon::start(&[]);
    let exporter = store.export(&[backend("main", carbon.address)]);
    store.commit(100);
    assert_eq!(carbon.timestamp(), 100);
    std::fs::remove_dir_all(&store.path).unwrap();
    let other = ExportLock::acquire(&store.path).unwrap();
    let mut store = Store::at(&store.path, &["main"]);
    let failures = exporter.accounts()[0].count(Count::ConnectionErrors);
    store.commit(110);
    wait_for(&exporter, Count::ConnectionErrors, failures + 1);
    assert_eq!(store.queued("main").len(), 1);
    drop(other);
    assert_eq!(carbon.timestamp(), 110);
    assert!(ExportLock::acquire(&store.path).is_err(), "it has the lock again");
}
