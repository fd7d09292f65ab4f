//! Series taken out on demand: the console's `delcounters`, `deltimers` and `delgauges`.
//!
//! An argument is a name, and `NAME.*` is every name that starts with `NAME.` as well. Arguments are
//! obeyed one after the other, so a series belongs to the first argument that means it. However many
//! arguments there are, the catalogue is gone through once.

use std::collections::BTreeMap;

use super::catalogue::Catalogue;

/// Takes out what `arguments` mean; `take` sees each series that goes.
///
/// # Shape
/// Returns the keys per argument: the exact one first, then those of the folder in the catalogue's
/// order. A key that is spelled like its folder's argument is named twice.
/// # Source
/// Reference semantics: `lib/mgmt_console.js`.
pub(super) fn delete<S: Default>(
    catalogue: &mut Catalogue<S>,
    arguments: &[Vec<u8>],
    mut take: impl FnMut(&[u8], &mut S),
) -> Vec<Vec<Box<[u8]>>> {
    let mut deleted: Vec<Vec<Box<[u8]>>> = vec![Vec::new(); arguments.len()];
    let owners = owners(catalogue, arguments);
    if owners.is_empty() {
        return deleted;
    }
    let mut exact: Vec<(usize, Box<[u8]>)> = Vec::new();
    let mut owner = owners.into_iter();
    catalogue.retain(|key, state| {
        let Some(argument) = owner.next().flatten() else { return true };
        take(key, state);
        if *key == *arguments[argument] {
            exact.push((argument, key.into()));
        }
        if folder(&arguments[argument]).is_some_and(|folder| key.starts_with(folder)) {
            deleted[argument].push(key.into());
        }
        false
    });
    for (argument, key) in exact {
        deleted[argument].insert(0, key);
    }
    deleted
}

/// Per series the first argument that means it; empty if no series is meant.
fn owners<S: Default>(catalogue: &Catalogue<S>, arguments: &[Vec<u8>]) -> Vec<Option<usize>> {
    let mut owners: Vec<Option<usize>> = vec![None; catalogue.len()];
    let mut is_meant = false;
    let mut own = |owner: &mut Option<usize>, argument: usize| {
        *owner = Some(owner.map_or(argument, |first| first.min(argument)));
        is_meant = true;
    };
    let mut folders: BTreeMap<&[u8], usize> = BTreeMap::new();
    for (number, argument) in arguments.iter().enumerate() {
        if let Some(owner) = catalogue.find(argument).and_then(|index| owners.get_mut(index)) {
            own(owner, number);
        }
        if let Some(folder) = folder(argument) {
            folders.entry(folder).or_insert(number);
        }
    }
    if !folders.is_empty() {
        for ((key, _), owner) in catalogue.iter().zip(&mut owners) {
            for dot in memchr::memchr_iter(b'.', key) {
                if let Some(number) = folders.get(&key[..=dot]) {
                    own(owner, *number);
                }
            }
        }
    }
    if is_meant { owners } else { Vec::new() }
}

/// `NAME.` of the argument `NAME.*`.
fn folder(argument: &[u8]) -> Option<&[u8]> {
    argument.strip_suffix(b"*").filter(|folder| folder.ends_with(b"."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::KeyHasher;

    fn catalogue(keys: &[&str]) -> Catalogue<u32> {
        let mut catalogue = Catalogue::new(KeyHasher::default());
        for key in keys {
            catalogue.state(key.as_bytes());
        }
        catalogue
    }

    fn deleted(catalogue: &mut Catalogue<u32>, arguments: &[&str]) -> Vec<String> {
        let arguments: Vec<Vec<u8>> = arguments.iter().map(|each| each.as_bytes().into()).collect();
        let (before, mut taken) = (catalogue.len(), 0);
        let deleted = delete(catalogue, &arguments, |_, _| taken += 1);
        let lists: Vec<String> = deleted
            .iter()
            .map(|keys| {
                let keys: Vec<_> = keys.iter().map(|key| String::from_utf8_lossy(key)).collect();
                keys.join(" ")
            })
            .collect();
        assert_eq!(catalogue.len() + taken, before, "each is taken once");
        lists
    }

    fn left(catalogue: &Catalogue<u32>) -> Vec<String> {
        catalogue.iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect()
    }

    #[test]
    fn a_name_is_itself_and_a_folder_is_all_below_it() {
        let mut known = catalogue(&["a", "a.b", "ab", "a.c.d", "b"]);
        assert_eq!(
            deleted(&mut known, &["a.*", "nope", "b", "*", "nope.*", ""]),
            ["a.b a.c.d", "", "b", "", "", ""]
        );
        assert_eq!(left(&known), ["a", "ab"]);
        assert_eq!(*known.state(b"ab"), 0, "still found");
    }

    #[test]
    fn a_series_belongs_to_the_first_argument_that_means_it() {
        let keys = ["a.b", "a.c.d", "a.c.e", "x"];
        assert_eq!(
            deleted(&mut catalogue(&keys), &["a.c.*", "a.*", "a.b", "x", "x"]),
            ["a.c.d a.c.e", "a.b", "", "x", ""]
        );
        assert_eq!(
            deleted(&mut catalogue(&keys), &["a.b", "a.*", "a.c.*", "a.*"]),
            ["a.b", "a.c.d a.c.e", "", ""]
        );
    }

    #[test]
    fn a_name_spelled_like_a_folder_is_both() {
        let mut known = catalogue(&["a.x", "a.*", ".y", ""]);
        assert_eq!(deleted(&mut known, &["a.*", ".*", ""]), ["a.* a.x a.*", ".y", ""]);
        assert!(left(&known).is_empty());
    }
}
