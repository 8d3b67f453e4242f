//! End-to-end tests on real servers, in one program.

mod launchers;
