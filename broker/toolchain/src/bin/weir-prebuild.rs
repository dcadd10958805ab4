//! x
fn main() {
    let toolchain = weir_toolchain::find(&|line| eprintln!("{line}")).expect("toolchain");
    for folder in std::env::args().skip(1) {
        let start = std::time::Instant::now();
        let built = weir_toolchain::build(
            folder.as_ref(),
            &toolchain,
            "target/policies".as_ref(),
            "target/policies".as_ref(),
        );
        match built {
            Ok(b) => {
                eprintln!("{} {} bytes {:?}", b.path.display(), b.component.len(), start.elapsed())
            }
            Err(e) => eprintln!("{e}"),
        }
    }
}
