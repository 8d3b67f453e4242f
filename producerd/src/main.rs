mod exchange;
fn main() {}
