//! Finding the rows that PostgreSQL refuses.

use std::ops::Range;

use super::fault::{Class, PgFault};

/// A row that was refused, and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) index: usize,
    pub(crate) fault: PgFault,
}

/// Halves a range until each part is stored or is a single refused row.
///
/// `store` tries a range, all or nothing. The order of the tries is that of the rows. `enough`, asked after each row
/// that was refused, ends it: what is behind that row has not been tried then.
///
/// # Errors
/// The first fault that is not a row's own.
pub(super) fn bisect(
    rows: Range<usize>,
    store: &mut impl FnMut(Range<usize>) -> Result<(), PgFault>,
    enough: impl Fn(&[Refused]) -> bool,
) -> Result<Vec<Refused>, PgFault> {
    let mut refused = Vec::new();
    let mut open = vec![rows];
    while let Some(part) = open.pop() {
        if part.is_empty() {
            continue;
        }
        match store(part.clone()) {
            Ok(()) => {}
            Err(fault) if fault.class() != Class::Row => return Err(fault),
            Err(fault) if part.len() == 1 => {
                refused.push(Refused { index: part.start, fault });
                if enough(&refused) {
                    break;
                }
            }
            Err(_) => {
                let middle = part.start + part.len() / 2;
                open.push(middle..part.end);
                open.push(part.start..middle);
            }
        }
    }
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(code: &str) -> PgFault {
        PgFault { code: Some(code.to_owned()), constraint: true, closed: false, message: String::new() }
    }

    /// Bisects with the given rows bad; returns what was refused, and how many tries it took.
    fn check(rows: usize, bad: &[usize]) -> usize {
        let mut tries = 0;
        let mut stored = Vec::new();
        let store = &mut |part: Range<usize>| {
            tries += 1;
            if bad.iter().any(|row| part.contains(row)) {
                return Err(fault("22003"));
            }
            stored.extend(part);
            Ok(())
        };
        let refused = bisect(0..rows, store, |_| false);
        let refused: Vec<_> = refused.expect("only row faults").iter().map(|refused| refused.index).collect();
        assert_eq!(refused, bad);
        assert_eq!(stored, (0..rows).filter(|row| !bad.contains(row)).collect::<Vec<_>>());
        tries
    }

    #[test]
    fn finds_exactly_the_bad_rows() {
        check(0, &[]);
        check(1, &[]);
        check(1, &[0]);
        check(7, &[6]);
        check(8, &[0, 7]);
        check(5, &[0, 1, 2, 3, 4]);
    }

    #[test]
    fn one_bad_row_takes_a_logarithm_of_tries() {
        assert_eq!(check(2000, &[]), 1);
        assert!(check(2000, &[1234]) <= 2 * 11 + 1);
    }

    #[test]
    fn it_ends_when_it_is_enough() {
        let mut tried = 0;
        let store = &mut |part: Range<usize>| {
            tried = tried.max(if part.len() == 1 { part.end } else { 0 });
            Err(fault("22003"))
        };
        let refused = bisect(0..2000, store, |refused| refused.len() == 3).expect("only row faults");
        assert_eq!((refused.len(), tried), (3, 3));
    }

    #[test]
    fn any_other_fault_ends_it() {
        let store = &mut |part: Range<usize>| Err(fault(if part.len() > 2 { "22003" } else { "57P01" }));
        let result = bisect(0..8, store, |_| false);
        assert_eq!(result, Err(fault("57P01")));
    }
}
