mod exchange;
mod schedule;
fn main() {}
